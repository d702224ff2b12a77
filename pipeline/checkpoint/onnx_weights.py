"""The weights of a ReXNet in an ONNX file of timm's exporters: by what the graph computes, as its names are often lost.

The layers are taken in the order of computing, given the names they have in a checkpoint, and believed only when the
network they make gives the graph's own logits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, inliner, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from rexnet_export.pipeline.checkpoint.key_formats import stages_of
from rexnet_export.pipeline.checkpoint.metadata import Stated, graph_stated
from rexnet_export.pipeline.checkpoint.onnx_evaluate import Layer, NotRecognised, evaluate, evaluate_from
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import ACTIVATIONS, MOST_CHANNELS, Activation
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.core.untrusted import open_untrusted, read_untrusted
from rexnet_export.pipeline.model.head import ACTIVATION_MODULES
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor, held

LARGEST_ONNX = (1 << 31) - 1  # protobuf's own limit
MOST_FUNCTIONS = 200
SMALLEST_SIDE, USUAL_SIDE, LARGEST_SIDE = 64, 64, 384
DEPTHWISE = (1, 3, 3)  # of a weight, behind its channels
CONVOLUTION, MATRIX = 4, 2  # dimensions of a weight
PROBES = 8
PROBE_SPREADS = torch.tensor([0.3, 1.0, 3.0, 10.0, 30.0])  # of what the first layer gives
NORM = ("weight", "bias", "running_mean", "running_var")
TOLERANCE = 1e-4  # of the largest logit
LOUD = 30  # times the image: clamps show, whose limits an ordinary image may never reach

type Check = Callable[[ReXNet], None]


def looks_like_onnx(start: bytes) -> bool:
    """Whether a file may be an ONNX model: its first field is its version, a small number."""
    return len(start) > 2 and start[0] == 8 and 0 < start[1] < 32


@dataclass(frozen=True, kw_only=True)
class OnnxWeights:
    """The tensors by timm's names, and what stands between the layers of a head that has several.

    `stated` is what the graph says of its images; `check` raises `CheckpointError` where a network made of them is not
    what the graph computes; `beside` are files that hold some of them.
    """

    tensors: dict[str, StoredTensor]
    head_activation: Activation | None
    stated: Stated
    check: Check
    beside: tuple[Path, ...]


def read_onnx(path: Path) -> OnnxWeights:
    """The weights in a graph that computes a ReXNet; `CheckpointError` for every other file."""
    try:
        model = _parsed(path)
        beside = _beside(model, path.parent)
        constants = {name: torch.from_numpy(array) for name, array in _constants(model, path.parent)}
        image = _image(model, constants)
        logits, layers = evaluate(model, image, constants)
        tensors, head = _named(layers)
        activation = _head_activation(head, model, constants)
        expected = ((image, logits), (image * LOUD, evaluate(model, image * LOUD, constants)[0]))
    except NotRecognised as reason:
        raise CheckpointError(
            f"{path} is an ONNX file whose graph is not recognised as a ReXNet ({excerpt(str(reason))}): give the "
            "checkpoint it was exported from"
        ) from reason
    except OSError as error:
        raise CheckpointError(
            f"{path} is ONNX with weights beside it, which cannot be read ({error.strerror}): keep both together"
        ) from error

    def check(network: ReXNet) -> None:
        for given, wanted in expected:
            with torch.inference_mode():
                found = network.eval()(given.expand(-1, network.spec.channels, -1, -1))
            if found.shape != wanted.shape or not _close(found, wanted):
                raise CheckpointError(
                    f"{path} is an ONNX file that computes something else than the ReXNet its weights make: give the "
                    "checkpoint it was exported from"
                )

    stored = {name: held(tensor) for name, tensor in tensors.items()}
    return OnnxWeights(
        tensors=stored, head_activation=activation, stated=_stated(model, str(path)), check=check, beside=beside
    )


def weights_beside(path: Path) -> tuple[Path, ...]:
    """Files beside an ONNX graph that hold some of its weights; none where it is no graph that is read here."""
    try:
        return _beside(_parsed(path), path.parent)
    except (CheckpointError, NotRecognised):
        return ()


def _beside(model: onnx.ModelProto, folder: Path) -> tuple[Path, ...]:
    names = {name for name in map(_location, model.graph.initializer) if name and Path(name).name == name}
    return tuple(sorted(folder / name for name in names))


def _stated(model: onnx.ModelProto, where: str) -> Stated:
    """The input's shape, where it is fixed, is the size of the images; the metadata of a graph of ours has the rest."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim][2:]
    return graph_stated(metadata, sides if all(sides) else None, where)


def _close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _parsed(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(read_untrusted(path, LARGEST_ONNX))
    except OSError:
        raise
    except Exception as error:  # protobuf's DecodeError; its package has no types
        raise CheckpointError(f"{path} is neither a torch file, safetensors nor a sound ONNX file") from error
    if not model.graph.node:
        raise CheckpointError(f"{path} is neither a torch file, safetensors nor an ONNX file with a graph")
    if model.functions:
        known = {(function.domain, function.name) for function in model.functions}
        nested = any((node.domain, node.op_type) in known for each in model.functions for node in each.node)
        if nested or len(known) > MOST_FUNCTIONS:
            raise NotRecognised("functions in functions")
        model = inliner.inline_local_functions(model)
    return model


def _constants(model: onnx.ModelProto, folder: Path) -> Iterator[tuple[str, object]]:
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            _bring(tensor, folder)
        try:
            yield tensor.name, numpy_helper.to_array(tensor).copy()
        except Exception as error:  # onnx's own errors have no common base
            raise NotRecognised(f"constant {tensor.name} is damaged") from error


def _location(tensor: TensorProto) -> str | None:
    """The file beside the graph that holds a tensor."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return None
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), None)


def _bring(tensor: TensorProto, folder: Path) -> None:
    """Read what lies in a file beside the graph, which must not lead anywhere else."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    name = where.get("location", "")
    if not name or Path(name).name != name:
        raise NotRecognised(f"constant {tensor.name} lies in another folder")
    try:
        offset, length = int(where.get("offset", "0")), int(where.get("length", "-1"))
    except ValueError as error:
        raise NotRecognised(f"constant {tensor.name} lies nowhere") from error
    with open_untrusted(folder / name, 1 << 36, inside=folder) as stream:
        stream.seek(max(0, offset))
        tensor.raw_data = stream.read(length) if 0 <= length <= LARGEST_ONNX else stream.read(LARGEST_ONNX)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _image(model: onnx.ModelProto, constants: Mapping[str, Tensor]) -> Tensor:
    """A seeded image of the size the graph is made for."""
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise NotRecognised("its input is not one float image")
    sizes = [dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim]
    if len(sizes) != 4 or not 1 <= sizes[1] <= MOST_CHANNELS:
        raise NotRecognised(f"its input has the shape {sizes}")
    sides = [side or USUAL_SIDE for side in sizes[2:]]
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sides) or (sizes[0] or 1) > 16:
        raise NotRecognised(f"its input has the shape {sizes}; {SMALLEST_SIDE} to {LARGEST_SIDE} pixels can be checked")
    return torch.randn(sizes[0] or 1, sizes[1], *sides, generator=_seeded())


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _named(layers: Sequence[Layer]) -> tuple[dict[str, Tensor], Sequence[Layer]]:
    """Layers in the order of computing under timm's names, and which of them are the head's.

    `NotRecognised` where that is not a ReXNet's order.
    """
    waiting = deque(layers)
    tensors = dict(_trunk(waiting))
    if len(waiting) > 1 and waiting[0].weight.ndim == CONVOLUTION:
        tensors |= _tensors("head.neck.conv", "head.neck.bn", waiting.popleft())
    if not waiting:
        raise NotRecognised("no layers stand behind the features")
    head = tuple(waiting)
    return {**tensors, **dict(_head(head))}, head


def _trunk(waiting: deque[Layer]) -> Iterator[tuple[str, Tensor]]:
    count = len(waiting)

    def following() -> Layer:
        if not waiting:
            raise NotRecognised(f"{count} layers are fewer than a ReXNet's")
        return waiting.popleft()

    yield from _tensors("stem.conv", "stem.bn", following())
    stages = stages_of(sum(tuple(layer.weight.shape[1:]) == DEPTHWISE for layer in waiting))
    for index in range(stages.total):
        path = f"features.{index}."
        if index >= stages.unexpanded:
            yield from _tensors(f"{path}conv_exp.conv", f"{path}conv_exp.bn", following())
        yield from _tensors(f"{path}conv_dw.conv", f"{path}conv_dw.bn", following())
        layer = following()
        if layer.pooled:
            yield from _tensors(f"{path}se.fc1", f"{path}se.bn", layer)
            yield from _tensors(f"{path}se.fc2", "", following())
            layer = following()
        yield from _tensors(f"{path}conv_pwl.conv", f"{path}conv_pwl.bn", layer)
    yield from _tensors(f"features.{stages.total}.conv", f"features.{stages.total}.bn", following())


def _head(layers: Sequence[Layer]) -> Iterator[tuple[str, Tensor]]:
    """Linear layers with room for a BatchNorm and an activation behind each."""
    for index, layer in enumerate(layers):
        path = "head.fc" if len(layers) == 1 else f"head.fc.{3 * index}"
        yield f"{path}.weight", layer.weight.flatten(1)
        yield f"{path}.bias", _bias(layer)
        if layer.norm is not None:
            yield from zip((f"head.fc.{3 * index + 1}.{leaf}" for leaf in NORM), layer.norm, strict=True)


def _head_activation(
    layers: Sequence[Layer], model: onnx.ModelProto, constants: Mapping[str, Tensor]
) -> Activation | None:
    """What stands between a head's layers; None where they have no place between them.

    A graph may spell it in many ways, so the graph's head and the layers with each activation are given the same
    features, from small ones to ones that saturate: one alone has to answer as the graph does.
    """
    if len(layers) == 1:
        return None
    if any(layer.weight.ndim != MATRIX for layer in layers):
        raise NotRecognised("a convolution stands between the head's layers")
    spread = PROBE_SPREADS / layers[0].weight.norm(dim=1).median().clamp(min=1e-6)
    noise = torch.randn(len(PROBE_SPREADS), PROBES, layers[0].weight.shape[1], generator=_seeded())
    features = (noise * spread[:, None, None]).flatten(0, 1)
    expected = evaluate_from(model, layers[0].source, features, constants)
    fitting = [activation for activation in ACTIVATIONS if _answers(layers, activation, features, expected)]
    if len(fitting) == 1:
        return fitting[0]
    told = " and ".join(fitting) + " all fit" if fitting else f"none of {', '.join(ACTIVATIONS)} fits"
    raise NotRecognised(f"its head has {len(layers)} layers, and {told} between them")


def _answers(layers: Sequence[Layer], activation: Activation, features: Tensor, expected: Tensor) -> bool:
    """Whether the layers give, row by row, what the graph gives."""
    between, value = ACTIVATION_MODULES.get(activation, nn.Identity)(), _affine(layers[0], features)
    for layer in layers[1:]:
        value = _affine(layer, between(value))
    return value.shape == expected.shape and all(map(_close, value, expected))


def _affine(layer: Layer, value: Tensor) -> Tensor:
    result = functional.linear(value, layer.weight.flatten(1), layer.bias)
    if layer.norm is None:
        return result
    scale, bias, mean, variance = layer.norm
    return functional.batch_norm(result, mean, variance, scale, bias)


def _bias(layer: Layer) -> Tensor:
    return torch.zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias


def _tensors(conv: str, norm: str, layer: Layer) -> Iterator[tuple[str, Tensor]]:
    """A convolution, and its BatchNorm where the graph has one; exporters leave out a bias of zeros."""
    if layer.weight.ndim != 4:
        raise NotRecognised(f"a matrix product where {conv} is expected")
    yield f"{conv}.weight", layer.weight
    keeps_bias = norm.endswith((".se.bn", ".neck.bn")) or not norm
    if layer.norm is None or keeps_bias:
        yield f"{conv}.bias", _bias(layer)
    if layer.norm is not None:
        scale, bias, mean, variance = layer.norm
        yield from ((f"{norm}.weight", scale), (f"{norm}.bias", bias), (f"{norm}.running_var", variance))
        yield f"{norm}.running_mean", mean if keeps_bias else mean - _bias(layer)
