"""What an artifact is, whatever its format."""
