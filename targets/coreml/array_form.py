"""The same network without image and classifier: coremltools' app for phones hands nothing over but arrays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.targets.coreml.builder import IMAGE, LOGITS
from rexnet_export.targets.coreml.package import quiet, read_package, seal

if TYPE_CHECKING:
    from coremltools.proto.MIL_pb2 import Block, Operation
    from coremltools.proto.Model_pb2 import Model


def array_form(source: Path, target: Path) -> Path:
    """Write a copy of a classifier's package that takes float32 [1, 3, S, S] RGB in 0..255 and gives its logits alone.

    Before: image -> network -> logits -> softmax -> classify. After: array -> network -> logits. What Core ML hands the
    program for an image is that array, so the network computes the same.
    """
    package = read_package(source)
    shutil.copytree(source, target)
    _give_logits_alone(package.spec)
    _take_an_array(package.spec)
    seal(target, package.spec)
    return target


def _take_an_array(spec: Model) -> None:
    with quiet():
        from coremltools.proto.FeatureTypes_pb2 import ArrayFeatureType  # noqa: PLC0415

    (image,) = spec.description.input
    if not image.type.HasField("imageType"):
        return  # of other channels than a photo's: an array already
    height, width = image.type.imageType.height, image.type.imageType.width
    image.type.Clear()
    image.type.multiArrayType.shape.extend([1, 3, height, width])
    image.type.multiArrayType.dataType = ArrayFeatureType.FLOAT32
    image.shortDescription = f"{IMAGE} as float32 [1, 3, {height}, {width}], RGB in 0..255."


def _give_logits_alone(spec: Model) -> None:
    for feature in [output for output in spec.description.output if output.name != LOGITS]:
        spec.description.output.remove(feature)
    spec.description.predictedFeatureName = spec.description.predictedProbabilitiesName = ""
    main = spec.mlProgram.functions["main"]
    block = main.block_specializations[main.opset]
    block.outputs[:] = [LOGITS]
    for operation in _unread(block):
        block.operations.remove(operation)


def _unread(block: Block) -> list[Operation]:
    """The operations whose results no output needs."""
    needed, unread = set(block.outputs), []
    for operation in reversed(block.operations):
        if needed.isdisjoint(output.name for output in operation.outputs):
            unread.append(operation)
        else:
            needed |= {binding.name for value in operation.inputs.values() for binding in value.arguments}
    return unread
