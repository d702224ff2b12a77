"""The search for channel configurations."""
