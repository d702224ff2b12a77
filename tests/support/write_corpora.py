"""Writes the seeds of `tests/corpora`: small good files of every kind, which fuzzers change.

`python tests/support/write_corpora.py`. What a fuzzer found lies beside them under another name and stays.
"""

from __future__ import annotations

import gzip
import json
import pickle
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save
from signed_folders import stated_folder

from rexnet_export.apps.bench.runner.archive import bundle_id
from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import Calibration, QuantTable, TensorEntry
from rexnet_export.quantization.table.table_file import save_table
from rexnet_export.targets.openvino.grids import SCALED
from rexnet_export.targets.openvino.ir import SECTION
from rexnet_export.targets.openvino.lower import IMAGE, INPUT, PIXELS
from rexnet_export.targets.openvino.toolchain import Runtime, runtime
from rexnet_export.targets.tflite.flatbuffer import schema

CORPORA = Path(__file__).parents[1] / "corpora"


def seeds(work: Path) -> Iterator[tuple[str, str, bytes]]:
    """Reader, file name and content."""
    folder = stated_folder(work / "out")
    yield "json", "manifest.json", (folder / "manifest.json").read_bytes()
    yield "manifest", "good.json", (folder / "manifest.json").read_bytes()
    yield "provenance", "good.json", (folder / "provenance.intoto.json").read_bytes()
    np.save(work / "a.npy", np.arange(12, dtype="<f4").reshape(3, 4))
    np.savez_compressed(work / "a.npz", a=np.arange(20), b=np.array(["x", "yy"]))
    yield "npy", "good.npy", (work / "a.npy").read_bytes()
    yield "bundle-npy", "good.npy", (work / "a.npy").read_bytes()
    yield "npz", "good.npz", (work / "a.npz").read_bytes()
    np.save(work / "p.npy", np.arange(0, 40, 3, dtype="<u4"))
    yield "places", "good.npy", (work / "p.npy").read_bytes()
    yield "table", "good.json", _table(work)
    yield "labels", "lines.txt", b"cat\ndog\n"
    yield "labels", "good.json", json.dumps(["cat", "dog"]).encode()
    yield "labels", "numbered.json", json.dumps({"0": "cat", "1": "dog"}).encode()
    yield "labels", "good.csv", b"index,name\n0,cat\n1,dog\n"
    yield "config", "good.toml", b'target = ["ort"]\nseed = 3\nmean = [0.5, 0.5, 0.5]\n'
    idx = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (2, 3, 3)) + bytes(18)
    yield "idx", "good.idx", idx
    yield "idx", "packed.idx", gzip.compress(idx, mtime=0)
    picture = Image.fromarray(np.arange(12 * 9 * 3, dtype=np.uint8).reshape(9, 12, 3))
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"):
        content = BytesIO()
        picture.save(content, kind)
        yield "image", f"good.{kind.lower()}", content.getvalue()
    state = {"stem.conv.weight": torch.ones(2, 3, 1, 1), "fc.bias": torch.zeros(2, dtype=torch.float16)}
    yield "checkpoint", "small.safetensors", save(state, {"format": "rexnet-export", "labels": '["a", "b"]'})
    yield "checkpoint", "numbers.pkl", pickle.dumps({"state_dict": {"a": [1.5, None]}, "args": ("x", b"y")}, 2)
    for name, zipped in (("small.pth", True), ("old.pth", False)):
        torch.save({"state_dict": state, "epoch": 3}, work / name, _use_new_zipfile_serialization=zipped)
        yield "checkpoint", name, (work / name).read_bytes()
    yield "checkpoint", "small.onnx", _graph()
    yield "graph", "small.onnx", _float_graph()
    yield "tflite", "small.tflite", _tflite()
    yield "openvino", "small.ir", _openvino(work)
    yield "bundle", "small.zip", _bundle(work)


def _table(work: Path) -> bytes:
    params = QuantParams(scale=(0.5,), zero_point=(3,), axis=None, bits=8)
    calibration = Calibration(images=2, images_sha256="0" * 64, statistic="min-max", seed=0)
    entry = TensorEntry(decision="observed", params=params, observed=(-1.0, 1.0), statistic="min-max")
    save_table(QuantTable(model_sha256="0" * 64, calibration=calibration, tensors={"image": entry}), work / "q.json")
    return (work / "q.json").read_bytes()


def _graph() -> bytes:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 1, 1], [0.5] * 6)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2, 2, 2])
    node = helper.make_node("Conv", ["image", "w"], ["logits"])
    model = helper.make_model(helper.make_graph([node], "g", [image], [logits], [weight]))
    content: bytes = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(model)
    return content


def _float_graph() -> bytes:
    """The ends of a float graph of ours: image, one convolution, pooled, two classes."""
    constants = {
        "input.constant_channel.pads": np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64),
        "input.constant_channel.value": np.uint8(255),
        "input.scale": np.float32(1 / 256),
        "input.zero_point": np.uint8(0),
        "stem.weight": np.ones((3, 4, 3, 3), np.float32),
        "logits.weight": np.ones((2, 3), np.float32),
        "logits.bias": np.zeros(2, np.float32),
    }
    nodes = [
        helper.make_node("Pad", ["image", *list(constants)[:2]], ["input.constant_channel"]),
        helper.make_node("Transpose", ["input.constant_channel"], ["input.nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["input.nchw", "input.scale", "input.zero_point"], ["input"]),
        helper.make_node("Conv", ["input", "stem.weight"], ["stem"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["stem"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flatten"]),
        helper.make_node("Gemm", ["flatten", "logits.weight", "logits.bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    card = ModelCard(name="small", labels=("a", "b"), preprocess=Preprocess(size=32), checkpoint_sha256="a" * 64)
    helper.set_model_props(model, describe(card, precision="fp32"))
    return model.SerializeToString(deterministic=True)


def _tflite() -> bytes:
    generated = schema()
    tensor = generated.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = b"image", [1, 2], generated.TensorType.INT8, 1
    buffers = [generated.BufferT(), generated.BufferT()]
    buffers[1].data = [1, 2]
    graph = generated.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    model = generated.ModelT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], buffers, []
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _openvino(work: Path) -> bytes:
    """A convolution between two grids, with its bias: the model, and behind it the numbers."""
    operators = runtime().opset13

    def grid(values: Runtime, low: float, high: float, name: str) -> Runtime:
        ends = [operators.constant(np.float32(end)) for end in (low, high, low, high)]
        return operators.fake_quantize(values, *ends, 256, name=name)

    def scaled(integers: NDArray[np.generic], name: str) -> Runtime:
        scales = operators.constant(np.full((2, 1, 1, 1), 0.5, np.float32))
        stored = operators.convert(operators.constant(integers, name=name), np.float32)
        return operators.multiply(stored, scales, name=f"{name}{SCALED}")

    image = operators.parameter([-1, 2, 2, 3], np.uint8, name=IMAGE)
    channels = operators.transpose(operators.convert(image, np.float32), operators.constant(np.array([0, 3, 1, 2])))
    weights = scaled(np.ones((2, 3, 1, 1), np.int8), "w")
    product = operators.convolution(grid(channels, *PIXELS[:2], INPUT), weights, [1, 1], [0, 0], [0, 0], [1, 1])
    sums = operators.add(product, scaled(np.ones((2, 1, 1, 1), np.int32), "b"))
    made = operators.result(grid(sums, -128, 127, "logits"))
    model = runtime().Model([made], [image], "small")
    model.set_rt_info("1", [SECTION, "format"])
    runtime().serialize(model, work / "model.xml", work / "model.bin")
    return (work / "model.xml").read_bytes() + (work / "model.bin").read_bytes()


def _bundle(work: Path) -> bytes:
    import hashlib  # noqa: PLC0415

    files = {"plan.json": b"{}", "labels.npy": (work / "a.npy").read_bytes()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files["bundle.json"] = json.dumps({"schema_version": 1, "bundle_id": bundle_id(sums)}).encode()
    sums["bundle.json"] = hashlib.sha256(files["bundle.json"]).hexdigest()
    files["SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        for reader, name, content in seeds(Path(made)):
            (CORPORA / reader).mkdir(parents=True, exist_ok=True)
            (CORPORA / reader / name).write_bytes(content)
    sys.exit()
