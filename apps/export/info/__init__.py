"""`rexnet-export info`: what a file is."""
