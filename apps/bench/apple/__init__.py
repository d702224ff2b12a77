"""A Mac and its iPhones, through coremltools' own app."""
