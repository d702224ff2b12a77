"""Executing and measuring artifacts."""
