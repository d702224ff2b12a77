"""Core ML by coremltools: predictions on a Mac, and which unit of an Apple device runs which operation.

Not run on Apple hardware: tested with coremltools' own classes on Linux, and with stand-ins for Core ML itself.
"""

from __future__ import annotations

import importlib
import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.runner.failure import NO_RUNTIME, RunnerError
from rexnet_export.apps.bench.runner.graph import Graph

RUNTIME = "Core ML"
CPU = "cpu"
RGB = 3  # channels
UNITS = {"MLNeuralEngineComputeDevice": "neural engine", "MLGPUComputeDevice": "gpu", "MLCPUComputeDevice": CPU}


class Plan(Protocol):
    """What of `coremltools.models.compute_plan.MLComputePlan` is asked."""

    @property
    def model_structure(self) -> Any:  # noqa: ANN401 - coremltools has no types
        """Its `program` has functions, each a block of operations."""

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:  # noqa: ANN401
        """Its `preferred_compute_device` is the one Core ML means to use; None for constants."""


class CoreMlSession:
    """`MLModel.predict` of a `.mlpackage`; its logits are the classifier's own output."""

    def __init__(self, model: Path) -> None:
        if platform.system() != "Darwin":
            raise RunnerError(f"{model.name}: Core ML runs on macOS only; name another artifact", NO_RUNTIME)
        coremltools = importlib.import_module("coremltools")
        self._model = coremltools.models.MLModel(str(model))
        self._image = importlib.import_module("PIL.Image")

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One image, handed over as a picture, or as an array where it has other channels than a photo."""
        picture = image[0].shape[2] == RGB
        given = self._image.fromarray(image[0], "RGB") if picture else image.transpose(0, 3, 1, 2).astype(np.float32)
        answer = self._model.predict({"image": given})
        return np.asarray(answer["logits"], np.float32).reshape(-1)

    def graph(self, model: Path, folder: Path) -> Graph:  # noqa: ARG002
        """Core ML's plan for the model as it was compiled and loaded here; it tells one from macOS 14.4 on."""
        try:
            module = importlib.import_module("coremltools.models.compute_plan")  # not in every coremltools
            compiled, wanted = self._model.get_compiled_model_path(), self._model.compute_unit
            return planned(module.MLComputePlan.load_from_path(compiled, compute_units=wanted))
        except Exception as error:  # noqa: BLE001 - coremltools has no exception type of its own
            return without_a_plan(error)


def planned(plan: Plan) -> Graph:
    """Operations that Core ML has a unit for, those of them it means to run elsewhere than on the CPU, and how many
    each unit gets; constants run nowhere."""
    counts: Counter[str] = Counter()
    for function in plan.model_structure.program.functions.values():
        for operation in _operations(function.block):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:
                kind = type(usage.preferred_compute_device).__name__
                counts[UNITS.get(kind, kind)] += 1
    total = sum(counts.values())
    executed_by = f"{RUNTIME} ({', '.join(sorted(counts))})" if counts else RUNTIME
    notes: dict[str, str | int] = {f"planned_for_{unit.replace(' ', '_')}": count for unit, count in counts.items()}
    return Graph(total, total - counts[CPU], executed_by, notes)


def without_a_plan(error: BaseException) -> Graph:
    """What is known where Core ML told no plan."""
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return Graph(None, None, RUNTIME, {"no_compute_plan": reason})


def _operations(block: Any) -> Iterator[Any]:  # noqa: ANN401
    """The operations of a block and of the blocks inside them."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)
