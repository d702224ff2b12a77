"""`--max-drop`: how many images it is judged by, what stays in float for it, and whether finished files keep it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

from rexnet_export.pipeline.core.errors import DataError, GateFailed
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.proof.results import TargetResult
from rexnet_export.quantization.onnx.simulate import Simulator
from rexnet_export.quantization.search.mixed_precision import EXACT, Mixed, leave_in_float, units
from rexnet_export.quantization.table.table import QuantTable

TRIED_EACH = 2  # simulations for each layer: alone in INT8, then given back


def judges_for(points: float | None, judges: int, images: int) -> int:
    """How many of the calibration images are held back: enough that the drop is no less than one of them."""
    if points is None:
        return judges
    needed = max(judges, math.ceil(100.0 / points))
    if 2 * needed > images:
        raise DataError(
            f"--max-drop {points:g} is judged by {needed} calibration images that set no range, and half of {images} "
            f"are too few: give {2 * needed} (--calibration-images), or allow more"
        )
    return needed


def within(points: float, model: onnx.ModelProto, table: QuantTable, judge: Simulator, progress: Progress) -> Mixed:
    """The table with no more in float than keeps the drop, in percentage points, on the judge's images."""
    with progress.stage("leaving layers in float", TRIED_EACH * len(units(model)), "trials") as bar:
        return leave_in_float(model, table, judge, points / 100.0, lambda: bar.advance(1))


def require_drop(points: float | None, targets: Mapping[str, TargetResult]) -> None:
    """Refuse INT8 files that lose more on labelled evaluation images, whatever the held-back images promised."""
    if points is None:
        return
    measured = {
        name: file.accuracy
        for target, result in targets.items()
        if result.precision == "int8"
        for name, file in {target: result.artifact, **{f"{target} {p}": f for p, f in result.presets.items()}}.items()
    }
    lost = [
        f"{name} loses {100.0 * accuracy.drop:.2f} points on {accuracy.n} images"
        for name, accuracy in measured.items()
        if not isinstance(accuracy, NotMeasured) and accuracy.drop > points / 100.0 + EXACT
    ]
    if lost:
        raise GateFailed(
            f"--max-drop {points:g} is not kept: {', '.join(lost)}; nothing was written: give more "
            "--calibration-images, allow more, or export fp16 or fp32"
        )
