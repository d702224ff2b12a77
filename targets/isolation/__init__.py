"""Opening files that nobody trusts, in a process of their own."""
