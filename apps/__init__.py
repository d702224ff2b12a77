"""Commands, one folder each: what prints, and the whole domain behind it."""
