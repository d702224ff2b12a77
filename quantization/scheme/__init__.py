"""Which tensor gets which parameters, and the QDQ graph that says so."""
