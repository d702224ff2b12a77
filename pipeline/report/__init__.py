"""The record of an export: what was made, from what, and what was measured of it."""
