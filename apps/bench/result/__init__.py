"""What a device measured: read, checked, compared."""
