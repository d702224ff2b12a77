"""Class names: in lists and files, beside images, and in the order of a model."""
