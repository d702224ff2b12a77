"""An ONNX graph of ours as a function, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.machine.onnx_session import exact_options, open_session

type Values = NDArray[np.float32]


def onnx_outputs(onnx_path: Path) -> Callable[[NDArray[np.generic]], dict[str, Values]]:
    """ONNX Runtime on the CPU, its integers exact: the graph's one input -> every output by name.

    It works on one thread: more would wait for each other in every operator, and waiting costs a core what work does.
    Whoever has many images calls it from several.
    """
    session = open_session(onnx_path, onnx_path.name, exact_options())
    (image,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(pixels: NDArray[np.generic]) -> dict[str, Values]:
        try:
            return dict(zip(names, session.run(names, {image.name: pixels}), strict=True))
        except Exception as error:
            raise ConversionError(f"ONNX Runtime cannot run {onnx_path.name}: {first_line(error)}") from error

    return run
