"""The one loop: options in, a folder of proven artifacts out."""
