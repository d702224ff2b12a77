"""Which forms a machine has, what each computes, and how its speed and its bounds are counted."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import NotMeasured, Precision
from rexnet_export.pipeline.model.rexnet import ReXNet, cost
from rexnet_export.pipeline.model.torch_session import open_reference
from rexnet_export.targets.gpu.clocks import clock_reader, nvml_reader
from rexnet_export.targets.gpu.feed import fed
from rexnet_export.targets.gpu.forms import FORMS, Machine, this_machine, why_not
from rexnet_export.targets.gpu.measure import answers, measure
from rexnet_export.targets.gpu.onnx_forms import open_onnx, providers
from rexnet_export.targets.gpu.peak import Layer, layers, roofline_s
from rexnet_export.targets.gpu.tensorrt_graph import symmetric_graph, without_uint8
from rexnet_export.targets.gpu.torch_forms import open_torch

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]

CPU = Machine(device=torch.device("cpu"), name="CPU", capability=None, providers=("CPUExecutionProvider",))
NONE = NotMeasured(reason="no clocks")


def card(capability: tuple[int, int], *providers: str) -> Machine:
    return Machine(device=torch.device("cuda", 0), name="a card", capability=capability, providers=providers)


@pytest.mark.parametrize(
    ("machine", "there"),
    [
        (CPU, {"float32", "channels-last", "bf16", "float32-compile", "bf16-compile", "ort-float32", "ort-int8"}),
        (card((7, 5)), {"float32", "channels-last", "amp", "fp16", "fp16-graph", "float32-compile", "fp16-compile"}),
        (
            card((8, 0), "CUDAExecutionProvider"),
            {*FORMS} - {"ort-int8", "tensorrt-fp16", "tensorrt-int8"},
        ),
        (card((9, 0), "TensorrtExecutionProvider", "CUDAExecutionProvider"), {*FORMS} - {"ort-int8"}),
    ],
    ids=["cpu", "turing", "ampere", "hopper with TensorRT"],
)
def test_a_machine_has_the_forms_that_its_device_and_runtimes_have(machine: Machine, there: set[str]) -> None:
    assert {name for name, form in FORMS.items() if why_not(form, machine) is None} == there


def test_reasons_name_what_is_missing_and_the_cure() -> None:
    assert "capability 8.0; a card has 7.5" in str(why_not(FORMS["tf32"], card((7, 5))))
    assert "install onnxruntime-gpu" in str(why_not(FORMS["ort-float32"], card((8, 0))))
    assert "the package tensorrt" in str(why_not(FORMS["tensorrt-int8"], card((8, 0), "CUDAExecutionProvider")))
    assert "CUDA device" in str(why_not(FORMS["fp16"], CPU))


def test_float32_on_a_card_is_not_rounded_to_tf32_and_tensorrt_leaves_nodes_to_cuda() -> None:
    machine = card((8, 0))
    assert providers(FORMS["ort-float32"], machine) == (("CUDAExecutionProvider", {"use_tf32": "0"}),)
    (first, asked), (second, _) = providers(FORMS["tensorrt-int8"], machine)
    assert (first, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert asked == {"trt_fp16_enable": "1", "trt_int8_enable": "1"}
    assert providers(FORMS["ort-int8"], CPU) == ("CPUExecutionProvider",)


@pytest.mark.parametrize(("name", "off"), [("float32", 1e-4), ("channels-last", 1e-4), ("bf16", 0.1)])
def test_torch_forms_give_the_references_logits(
    name: str, off: float, network: ReXNet, sources: Sources, images: Images
) -> None:
    preprocess = sources["fp32"].card.preprocess
    expected = open_reference(network, preprocess, cuda=False).run(images)
    with open_torch(FORMS[name], network, preprocess, CPU) as opened:
        found = np.concatenate(list(answers(opened.bind(images[:8]), [images[:8], images[8:16], images[16:]], 8)))
        streamed = np.concatenate(list(fed(opened.step, CPU.device, [images[:8].copy(), images[8:].copy()])))
    np.testing.assert_allclose(found, expected, rtol=0, atol=off * np.abs(expected).max())
    np.testing.assert_allclose(streamed, found, rtol=0, atol=off * np.abs(expected).max())
    assert len({each.dtype for each in network.parameters()}) == 1, "the network itself is left as it was"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["tf32", "amp", "fp16", "bf16", "fp16-graph", "float32-compile", "fp16-compile"])
def test_forms_of_a_gpu_give_the_references_logits(
    name: str, network: ReXNet, sources: Sources, images: Images
) -> None:
    preprocess = sources["fp32"].card.preprocess
    expected = open_reference(network, preprocess, cuda=False).run(images)
    with open_torch(FORMS[name], network, preprocess, this_machine()) as opened:
        found = np.concatenate(list(answers(opened.bind(images[:8]), [images[:8], images[8:16], images[16:]], 8)))
        streamed = np.concatenate(list(fed(opened.step, this_machine().device, [images[:8].copy(), images[8:].copy()])))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.1 * np.abs(expected).max())
    np.testing.assert_allclose(streamed, found, rtol=0, atol=0.1 * np.abs(expected).max())


def test_tf32_is_as_it_was_when_a_form_is_closed(network: ReXNet, sources: Sources) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with open_torch(FORMS["tf32"], network, sources["fp32"].card.preprocess, CPU):
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (True, True)
    with open_torch(FORMS["float32"], network, sources["fp32"].card.preprocess, CPU):
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)
    now = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    assert now == before


def logits(model: onnx.ModelProto, images: Images, name: str = "ort-float32") -> NDArray[np.float32]:
    with open_onnx(FORMS[name], model, CPU) as opened:
        bound = opened.bind(images)
        return np.concatenate(list(answers(bound, [images], len(images))))


def test_a_graph_without_uint8_gives_the_same_logits(sources: Sources, images: Images) -> None:
    model = onnx.load(sources["fp32"].float_onnx.path)
    changed = without_uint8(model)
    np.testing.assert_allclose(logits(changed, images), logits(model, images), rtol=0, atol=1e-4)
    (image,) = changed.graph.input
    (reader,) = [node for node in changed.graph.node if image.name in node.input]
    assert (image.type.tensor_type.elem_type, reader.op_type) == (onnx.TensorProto.UINT8, "Cast")


@pytest.mark.parametrize("form", ["plain", "grouped"])
def test_tensorrts_graph_is_symmetric_and_close(form: str, images: Images, request: pytest.FixtureRequest) -> None:
    source: Source = request.getfixturevalue(f"{form}_sources")["int8"]
    assert source.table
    model = onnx.load(source.float_onnx.path)
    graph = symmetric_graph(model, source.table).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert pairs
    for node in pairs:
        assert constants[node.input[2]].dtype == np.int8, node.name  # none of a bias, which would be int32
        assert not constants[node.input[2]].any(), node.name
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized) > 20
    assert source.qdq_onnx
    graphs = onnx.load(source.qdq_onnx.path), symmetric_graph(model, source.table)
    expected = logits(model, images)
    table, symmetric = (float(np.square(logits(graph, images, "ort-int8") - expected).sum()) for graph in graphs)
    assert table < symmetric < 8 * table  # a step may be twice as wide, and its noise then has four times the power


def test_tensorrts_graph_has_the_tables_corrections(sources: Sources, images: Images) -> None:
    source = sources["int8"]
    assert source.table
    name = "logits.bias"
    shift = tuple(float(each) for each in range(10))
    corrected = replace(source.table.tensors[name], correction=shift)
    table = replace(source.table, tensors={**source.table.tensors, name: corrected})
    model = onnx.load(source.float_onnx.path)
    before, after = (
        {t.name: onnx.numpy_helper.to_array(t) for t in symmetric_graph(model, each).graph.initializer}[name]
        for each in (source.table, table)
    )
    np.testing.assert_allclose(after - before, np.arange(10), atol=1e-5)


def test_a_table_of_another_model_is_refused(sources: Sources) -> None:
    table = sources["int8"].table
    assert table
    with pytest.raises(ConversionError, match="the table belongs to model 0000"):
        symmetric_graph(onnx.load(sources["int8"].float_onnx.path), replace(table, model_sha256="0" * 64))


def test_a_provider_that_is_not_there_is_refused_and_not_replaced(sources: Sources, images: Images) -> None:
    with (
        open_onnx(FORMS["ort-float32"], onnx.load(sources["fp32"].float_onnx.path), card((8, 0))) as opened,
        pytest.raises(ConversionError),
    ):
        opened.bind(images)


def test_layers_count_the_networks_multiplications(network: ReXNet, sources: Sources) -> None:
    found = layers(network, sources["fp32"].card.preprocess)
    assert sum(layer.macs for layer in found) == cost(network.spec, 32).macs
    assert found[0].activations == 3 * 32 * 32 + network.spec.stem * 16 * 16


def test_the_roofline_is_the_slower_of_arithmetic_and_memory_layer_by_layer() -> None:
    dense, thin = Layer(macs=500, activations=10, weights=5), Layer(macs=1, activations=100, weights=0)
    # At 100 FLOP/s and 40 bytes/s: 1000 / 100 against 4 * 15 / 40, then 2 / 100 against 400 / 40.
    assert roofline_s([dense, thin], 1, 4, 100, 40) == pytest.approx(10 + 10)
    # Weights are read once, however many images there are.
    assert roofline_s([Layer(macs=0, activations=1, weights=98)], 2, 1, 1, 10) == pytest.approx(10)


class Clocked:
    """Batches that each take a time of their own choosing, as a fake device whose clock is the test's."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def load(self, images: Images) -> None:
        raise AssertionError(images)

    def run(self) -> None:
        self.begun += 1

    def wait(self) -> None:
        self.ended = self.begun

    def logits(self) -> NDArray[np.float32]:
        raise AssertionError


def test_clocks_are_read_while_work_is_under_way_and_none_is_left() -> None:
    bound = Clocked()
    under_way = []

    def read() -> NotMeasured:
        under_way.append(bound.begun - bound.ended)
        return NONE

    cell = measure(bound, 4, 0.001, read)
    assert under_way[0] > 0
    assert bound.ended == bound.begun
    assert cell.clocks == NONE
    assert cell.p10_ms <= cell.p50_ms
    assert cell.n >= 6


def test_without_a_card_clocks_have_a_reason() -> None:
    assert clock_reader(torch.device("cpu"))() == NotMeasured(reason="a CPU; NVML speaks of NVIDIA's cards")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without NVIDIA's driver")
def test_without_a_driver_nvml_says_so() -> None:
    found: Any = nvml_reader("GPU-none")()
    assert found.reason.startswith("NVML: ")
