"""`rexnet-bench gpu`: the desktop network in every form that this machine can run."""
