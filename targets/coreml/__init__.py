"""Core ML: `.mlpackage` files, written and executed without Apple hardware."""
