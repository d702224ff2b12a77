"""The form of a package that takes an array: the same network, without what coremltools' app cannot hand over."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.targets.coreml.array_form import array_form
from rexnet_export.targets.coreml.builder import IMAGE, LOGITS
from rexnet_export.targets.coreml.interpreter import MilSession
from rexnet_export.targets.coreml.interpreter_program import CLASSIFIER, MilProgram
from rexnet_export.targets.coreml.package import read_package
from rexnet_export.targets.coreml.target import CoreML


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_an_array_gives_the_logits_of_the_image(
    precision: Precision, sources: Mapping[Precision, Source], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = CoreML().convert(sources[precision], tmp_path, "image").file.path
    before = {member: member.read_bytes() for member in path.rglob("*") if member.is_file()}
    package = read_package(array_form(path, tmp_path / "arrays.mlpackage"))
    arrays = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    results = MilProgram(package, {LOGITS}, arithmetic="program").execute({IMAGE: arrays})
    (logits,) = [result.numpy() for step, result in results if step.output == LOGITS]
    np.testing.assert_allclose(logits, MilSession(read_package(path)).run(images), rtol=0, atol=1e-3)
    assert {member: member.read_bytes() for member in before} == before, "the package itself was changed"


def test_nothing_but_arrays_goes_in_and_out(sources: Mapping[Precision, Source], tmp_path: Path) -> None:
    path = CoreML().convert(sources["fp16"], tmp_path, "image").file.path
    package = read_package(array_form(path, tmp_path / "arrays.mlpackage"))
    description, main = package.spec.description, package.spec.mlProgram.functions["main"]
    ((array,), (output,)) = description.input, description.output
    size = read_package(path).spec.description.input[0].type.imageType.width
    assert list(array.type.multiArrayType.shape) == [1, 3, size, size]
    assert (output.name, output.type.WhichOneof("Type")) == (LOGITS, "multiArrayType")
    assert not description.predictedFeatureName
    assert not description.predictedProbabilitiesName
    assert list(main.block_specializations[main.opset].outputs) == [LOGITS]
    assert not {CLASSIFIER, "softmax"} & {op.op_type for op in package.operations}
