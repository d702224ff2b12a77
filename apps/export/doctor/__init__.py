"""`rexnet-export doctor`: what works on this machine."""
