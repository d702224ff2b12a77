"""A phone's browser: the page, its server and what it uploads."""
