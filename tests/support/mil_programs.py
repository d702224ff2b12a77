"""Tiny ML programs for the interpreter: built, saved the way the exporter saves, and read back from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from rexnet_export.targets.coreml.interpreter_program import Arithmetic, MilProgram
from rexnet_export.targets.coreml.package import GENERATOR, MODEL, Package, quiet, read_altered

if TYPE_CHECKING:
    from coremltools.converters.mil import Builder

TESTED = "tested"

type Build = Callable[..., object]


def builder() -> type[Builder]:
    """coremltools' MIL builder, `mb`."""
    with quiet():
        from coremltools.converters.mil import Builder  # noqa: PLC0415

        return Builder


def built(build: Build, shapes: Sequence[tuple[int, ...]], *, half: bool) -> Package:
    """The program of `build`, a function whose parameters name the inputs: float16 or float32 tensors of `shapes`."""
    with quiet():
        import coremltools as ct  # noqa: PLC0415
        from coremltools.converters.mil.mil import types  # noqa: PLC0415

        mb = builder()
        specs = [mb.TensorSpec(shape=shape, dtype=types.fp16 if half else types.fp32) for shape in shapes]
        program = mb.program(input_specs=specs, opset_version=ct.target.iOS17)(build)
        return Package(path=Path("tiny"), spec=ct.proto.Model_pb2.Model(), program=program)


def saved(package: Package, **conversion: object) -> Package:
    """The program saved the way the exporter saves, and read back."""
    with quiet(), TemporaryDirectory() as folder:
        import coremltools as ct  # noqa: PLC0415

        path = Path(folder, "tiny.mlpackage")
        spec = ct.convert(
            package.program,
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS17,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
            package_dir=str(path),
            **conversion,
        ).get_spec()
        spec.description.metadata.userDefined["generator"] = GENERATOR
        model = path / "Data" / MODEL
        model.unlink()  # coremltools leaves it readable by its owner only
        model.write_bytes(spec.SerializeToString())
        return read_altered(path)


def execute(
    package: Package, inputs: Mapping[str, NDArray[np.floating]], arithmetic: Arithmetic = "program"
) -> NDArray[np.float32]:
    """The result named `tested`; the inputs may hold more than the one image the program was built for."""
    program = MilProgram(package, {TESTED}, arithmetic=arithmetic)
    values = {name: torch.from_numpy(value.astype(np.float32)) for name, value in inputs.items()}
    results = {step.output: result for step, result in program.execute(values)}
    found: NDArray[np.float32] = results[TESTED].numpy()
    return found
