"""IRs executed and traced by OpenVINO's CPU plugin."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import float_tensors_from
from rexnet_export.pipeline.artifact.self_test import MOST_PIXELS
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.images import require_images
from rexnet_export.pipeline.core.outputs import PROBABILITIES, answer, are_outputs
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.openvino.grids import GRID, PRODUCT, REAL, SCALED, on_grids
from rexnet_export.targets.openvino.inspect import stored_qparams
from rexnet_export.targets.openvino.ir import LONGEST_REASON, PRODUCTS, Graph, read_ir
from rexnet_export.targets.openvino.lower import IMAGE, INPUT
from rexnet_export.targets.openvino.saturation import IN_FLOAT, saturates
from rexnet_export.targets.openvino.toolchain import core, runtime

X86 = frozenset({"x86_64", "AMD64"})
_INTEGERS = frozenset({"u8", "i8"})

type Compiled = Any  # OpenVINO's own classes: they say little of their types


@dataclass(frozen=True, kw_only=True)
class OpenvinoSession:
    """One model, an image at a time; `in_float` where the processor would lose sums of its integers."""

    compiled: Compiled
    graph: Graph
    path: Path
    shape: tuple[int, int, int]
    threads: int
    in_float: bool

    @property
    def executed_by(self) -> str:
        """OpenVINO's version, and what it was told to do otherwise than by itself."""
        return f"OpenVINO {version('openvino')}" + self.in_float * " in float, as this processor's INT8 saturates"

    @property
    def timed(self) -> bool:
        """Whether what runs here is what would run without us."""
        return not self.in_float

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> the declared outputs, float32 [N, classes] or [N, C, H, W]."""
        require_images(images, self.shape)
        return _run(self._request, images, self.path.name)

    @cached_property
    def _request(self) -> Compiled:
        return self.compiled.create_infer_request()

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Every activation as real numbers, [N, C, H, W] or [N, C], by ONNX name, in the file's order.

        From a copy that puts them all out, as OpenVINO shows no others. It is fused less than the file, so a number
        halfway between two integers may fall otherwise than it does in `run`, which the logits are of.
        """
        found = _run(self._traced.create_infer_request(), images, self.path.name)
        real = {name: _on_grid(values, self._grids.get(name)) for name, values in found.items()}
        return real | {name: values for name, values in self.outputs(images).items() if name != PROBABILITIES}

    @cached_property
    def _grids(self) -> Mapping[str, QuantParams]:
        return stored_qparams(self.graph)

    @cached_property
    def _traced(self) -> Compiled:
        return _compiled(
            self.graph, self.path.name, self.threads, outputs=_activations(self.graph), in_float=self.in_float
        )

    def require_integers(self) -> None:
        """`ConversionError` where this processor multiplies in float what the file has as integers.

        Asked on x86, whose plugin computes every layer of a file of ours in INT8; other processors' need not.
        """
        if platform.machine() not in X86:
            return
        left = float_tensors_from(self.graph.metadata)
        wanted = [x.name for x in self.graph.kinds(*PRODUCTS) if self.graph.stored(x.inputs[1]) not in left]
        real = [name for name, precision in self.products().items() if name in wanted and precision not in _INTEGERS]
        if real:
            raise ConversionError(
                f"{self.executed_by} computes {len(real)} of {len(wanted)} layers of {self.path.name} in float, first "
                f"{real[0].removesuffix(PRODUCT)}; report this with the checkpoint"
            )

    def products(self) -> dict[str, str]:
        """What every multiplying layer is computed in on this processor (`u8`, `f32`), as OpenVINO says it."""
        found = {}
        own = _compiled(self.graph, self.path.name, self.threads) if self.in_float else self.compiled
        for operation in own.get_runtime_model().get_ops():
            said = operation.get_rt_info()
            for name in said["originalLayersNames"].astype(str).split(","):
                if name.endswith(PRODUCT):
                    found[name] = said["runtimePrecision"].astype(str)
        return found


def open_session(path: Path, *, threads: int = 1) -> OpenvinoSession:
    """Open a folder of ours, whole and with the contract's input and output.

    Where the processor saturates (see `saturates`) an INT8 file is computed on its grids in float: that is what the
    file means, and what it gives on a processor that does not.
    """
    require_module("openvino", "OpenVINO")
    graph = read_ir(path)
    images = list(graph.kinds("Parameter"))
    ends = [layer.inputs[0] for layer in graph.kinds("Result")]
    if [image.name for image in images] != [IMAGE] or len(images[0].shape) != 4 or not are_outputs(ends):
        raise ConversionError(
            f"{path} does not take {IMAGE} [n, H, W, C] and give logits, probabilities or features; it was not "
            "exported here"
        )
    _, height, width, channels = images[0].shape
    if height * width * channels > MOST_PIXELS:
        raise ConversionError(f"{path} takes {height} x {width} pixels, which is no size of an image classifier")
    in_float = any(graph.kinds(GRID)) and saturates()
    return OpenvinoSession(
        compiled=_compiled(graph, path.name, threads, in_float=in_float),
        graph=graph,
        path=path,
        shape=(height, width, channels),
        threads=threads,
        in_float=in_float,
    )


def _activations(graph: Graph) -> list[str]:
    """What stands for a tensor of ONNX behind the image: what is on a grid, and what the file leaves in float; all
    where it has no grids."""
    grids = on_grids(graph)
    left = float_tensors_from(graph.metadata) if grids else graph.layers.keys()
    names = list(graph.layers)
    helpers = (PRODUCT, REAL, SCALED, PROBABILITIES)
    return [
        layer.name
        for layer in map(graph.layers.__getitem__, names[names.index(INPUT) :])
        if (layer.name in grids and not layer.name.endswith(REAL))
        or (layer.name in left and -1 in layer.shape and layer.kind != "Result" and not layer.name.endswith(helpers))
    ]


def _compiled(
    graph: Graph, name: str, threads: int, *, outputs: Sequence[str] = (), in_float: bool = False
) -> Compiled:
    """Load what was read, for one image at a time; with `outputs`, those layers are the model's."""
    openvino = runtime()
    try:
        model = core().read_model(graph.model, openvino.Tensor(np.frombuffer(graph.weights, np.uint8)))
        _, *image = model.input(0).partial_shape
        model.reshape([1, *image])
        if outputs:
            model = openvino.Model(_named(model, outputs), model.get_parameters(), name)
        # In float32 where there are no integers: processors with bfloat16 would take that.
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        return core().compile_model(model, "CPU", settings | (IN_FLOAT if in_float else {}))
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO cannot open {name}: {_reason(error)}") from error


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says in the end: before that stand the places in its source."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return said[-1][:LONGEST_REASON] if said else type(error).__name__


def _named(model: Compiled, names: Collection[str]) -> list[Compiled]:
    """Results of layers under the layers' own names."""
    layers = {operation.get_friendly_name(): operation for operation in model.get_ops()}
    for name in names:
        layers[name].output(0).set_names({name})
    return [runtime().opset13.result(layers[name]) for name in names]


def _run(request: Compiled, images: NDArray[np.uint8], name: str) -> dict[str, NDArray[np.float32]]:
    """Every output of every image, one after another."""
    names = [min(output.get_names()) for output in request.model_outputs]
    found: dict[str, list[NDArray[np.float32]]] = {output: [] for output in names}
    for image in images:
        try:
            results = request.infer({IMAGE: np.ascontiguousarray(image[None])})
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO stopped in {name}: {_reason(error)}") from error
        for output in names:
            found[output].append(results[output].copy())
    return {output: np.concatenate(values) for output, values in found.items()}


def _on_grid(values: NDArray[np.float32], params: QuantParams | None) -> NDArray[np.float32]:
    """The numbers that integers stand for; OpenVINO gives them a few millionths of a step away."""
    return values if params is None else params.dequantize(params.quantize(values)).astype(np.float32)
