"""The desktop reference: float weights, run by torch."""
