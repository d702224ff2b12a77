"""Exact rewrites of the float graph."""
