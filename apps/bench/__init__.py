"""`rexnet-bench`: bundles, devices, results."""
