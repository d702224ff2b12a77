"""Executes a saved Core ML classifier where Core ML does not exist: the program on disk, in torch on the CPU.

It runs the file, stored integers and scales included, batch by batch. It stands for what the file says, not for
Apple's kernels, which may fuse integers or add up in another order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.images import require_images
from rexnet_export.pipeline.core.outputs import answer
from rexnet_export.pipeline.machine.torch_threads import side_by_side, torch_threads
from rexnet_export.targets.coreml.builder import IMAGE, LOGITS, onnx_name
from rexnet_export.targets.coreml.inspect import class_labels, image_shape, real_outputs
from rexnet_export.targets.coreml.interpreter_program import CLASSIFIER, Arithmetic, MilProgram
from rexnet_export.targets.coreml.package import Package

PIXELS_AT_ONCE = 2**16  # 16 images of 64 x 64: activations stay in the cache, and calls cost little beside them
_COLOURS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}
_SPELLINGS = (".q", ".float", ".half")  # of an ONNX tensor: its integers, and its real numbers before their last form


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What Core ML's classifier gives, for each of N images: the likeliest label, and [N, classes] beside it."""

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]


class MilSession:
    """A package ready to run; `Arithmetic` says what is rounded to float16."""

    executed_by = "MIL reference interpreter"
    timed = False
    emulated = True

    def __init__(self, package: Package, *, arithmetic: Arithmetic = "program") -> None:
        self._shape, self._order = image_shape(package), _order(package)
        self._names = real_outputs(package)
        classifies = bool(package.spec.description.predictedFeatureName)
        self._labels, self._probabilities = _classifier(package) if classifies else ((), "")
        wanted = {*self._names, *filter(None, [self._probabilities])}
        with torch_threads(1):  # threads that wait for each other cost more than these tables
            self._program = MilProgram(package, wanted, arithmetic=arithmetic)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> the declared outputs, float32 [N, classes] or [N, C, H, W]."""
        found = self._outputs(images)
        return {onnx_name(name): found[name] for name in self._names}

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """uint8 [N, S, S, 3] RGB -> labels, probabilities and logits; among equals, the first label."""
        outputs = self._outputs(images)
        probabilities = outputs[self._probabilities]
        labels = tuple(self._labels[index] for index in probabilities.argmax(1))
        return Prediction(labels=labels, probabilities=probabilities, logits=outputs[LOGITS])

    @torch.inference_mode()
    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Every activation by ONNX tensor name, NCHW or [N, C]: integers as the exact real numbers they stand for.

        Holds them all in memory: for a few images.
        """
        require_images(images, self._shape)
        found: dict[str, Tensor] = {}
        with torch_threads(1):  # as batches are run
            for step, result in self._program.execute({IMAGE: self._pixels(images)}):
                name = onnx_name(step.output)
                is_tensor_of_the_graph = not step.output.startswith(f"{IMAGE}__") and step.output != self._probabilities
                # What is read back from integers is rounded to the program's type; the integers themselves were traced.
                if is_tensor_of_the_graph and not name.endswith(".dq"):
                    # In program order, so a tensor's integers take the place of the real numbers they were made from.
                    found[_plain_name(name)] = result if step.reals is None else step.reals(result)
        return {name: np.ascontiguousarray(value.numpy()) for name, value in found.items()}

    def _outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        require_images(images, self._shape)
        count = max(1, PIXELS_AT_ONCE // math.prod(self._shape[:2]))
        return side_by_side(self._batch, images, count)

    @torch.inference_mode()
    def _batch(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {name: result.numpy() for name, result in self._program.run({IMAGE: self._pixels(images)}).items()}

    def _pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """An image as Core ML hands it to the program: float32 [N, C, H, W] in 0..255. Channels stay last in memory."""
        return torch.from_numpy(np.take(images, self._order, axis=3)).permute(0, 3, 1, 2).float()


def _order(package: Package) -> tuple[int, ...]:
    """The image's channels in the order the program wants them; an array's are in its own.

    Scale and bias of the image are operations of the program; the specification says no more of it than this.
    """
    kind = package.spec.description.input[0].type
    if not kind.HasField("imageType"):
        return tuple(range(kind.multiArrayType.shape[1]))
    colours = kind.imageType.ColorSpace.Name(kind.imageType.colorSpace)
    if colours not in _COLOURS:
        raise ConversionError(f"{package.path} takes a {colours} image, no colour one; export it again")
    return _COLOURS[colours]


def _classifier(package: Package) -> tuple[tuple[str, ...], str]:
    """The labels by class index, and the name of their probabilities."""
    labels = class_labels(package)
    (classify,) = (op for op in package.operations if op.op_type == CLASSIFIER)
    return labels, classify.probabilities.name


def _plain_name(onnx_tensor: str) -> str:
    for spelling in _SPELLINGS:
        onnx_tensor = onnx_tensor.removesuffix(spelling)
    return onnx_tensor
