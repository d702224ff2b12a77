"""The sample that comes with the package: images, labels and a trained checkpoint."""
