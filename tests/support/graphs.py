"""What ONNX Runtime makes of a graph, and a package beside it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import StoredFile
from rexnet_export.targets.coreml.builder import IMAGE, LOGITS, onnx_name
from rexnet_export.targets.coreml.interpreter_program import Arithmetic, MilProgram
from rexnet_export.targets.coreml.package import Package

type Images = NDArray[np.uint8]
type Reals = NDArray[np.float32]


def run(model: onnx.ModelProto, names: list[str], images: Images) -> dict[str, NDArray[np.generic]]:
    """The tensors `names` of a graph in ONNX Runtime, node by node, none of them optimized away."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return dict(zip(names, session.run(names, {IMAGE: images}), strict=True))


def onnx_logits(graph: StoredFile | None, images: Images) -> Reals:
    """What the graph says."""
    assert graph
    return logits_of(graph.path, images)


def logits_of(path: Path, images: Images) -> Reals:
    """What an ONNX file says node by node: with QDQ, float arithmetic between integers."""
    return run(onnx.load(path), [LOGITS], images)[LOGITS]


def every_tensor(graph: StoredFile | None, images: Images) -> dict[str, NDArray[np.generic]]:
    """Each node's result, by name."""
    assert graph
    model = onnx.load(graph.path)
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    names = [node.output[0] for node in model.graph.node if node.output[0] in shapes]
    model.graph.output.extend(shapes[name] for name in names)
    return run(model, [*names, LOGITS], images)


def signal_to_noise(reference: Reals, candidate: Reals) -> float:
    """In decibels, of what differs between images: a constant offset of the logits would flatter."""
    reference, candidate = reference - reference.mean(0), candidate - candidate.mean(0)
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - candidate) ** 2)))


def lockstep(package: Package, graph: StoredFile | None, images: Images, arithmetic: Arithmetic) -> dict[str, float]:
    """By integer tensor: the fraction that equals ONNX Runtime's; none is more than a step away.

    Each layer starts from ONNX Runtime's own integers: errors neither add up nor hide behind each other.
    """
    expected = every_tensor(graph, images)
    program = MilProgram(package, {LOGITS}, arithmetic=arithmetic)
    equal = {}
    for step, result in program.execute({IMAGE: torch.tensor(images).permute(0, 3, 1, 2).float()}):
        if step.reals:
            name = onnx_name(step.output)
            integers = torch.tensor(expected[name].astype(np.float32))
            assert (result - integers).abs().max() <= 1, name
            equal[name] = (result == integers).float().mean().item()
            result.copy_(integers)  # what the next layers read
    assert equal.keys() == {name for name in expected if name.endswith(".q") and expected[name].dtype == np.int8}
    return equal
