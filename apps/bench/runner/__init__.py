"""What runs on the device, copied into every bundle: it needs Python 3.9, numpy, one runtime, and nothing else."""
