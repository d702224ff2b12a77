"""Statistics of arrays, as calibration finds them of a tensor with these values."""

from __future__ import annotations

import numpy as np

from rexnet_export.quantization.calibration import observe
from rexnet_export.quantization.calibration.observe import TensorStatistics


def summary(values: np.ndarray) -> TensorStatistics:
    """Of a finite tensor [images, channels, ...]."""
    return observe._summarise([observe._kept(np.asarray(values, np.float32))])
