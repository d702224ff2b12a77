"""The quantization table."""
