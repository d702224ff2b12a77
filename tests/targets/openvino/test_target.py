"""OpenVINO models: what they compute in, what they say, and what happens to hostile ones."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import signal_to_noise
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core import extras
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.pipeline.graph.float_tracer import float_trace
from rexnet_export.targets.openvino.inspect import count_arithmetic
from rexnet_export.targets.openvino.ir import MODEL, WEIGHTS, read_ir
from rexnet_export.targets.openvino.lower import lower
from rexnet_export.targets.openvino.saturation import saturates
from rexnet_export.targets.openvino.session import open_session
from rexnet_export.targets.openvino.target import Openvino
from rexnet_export.targets.openvino.toolchain import core

TARGET = Openvino()

# No integer of 8 bits has 65536 levels.
WIDE = r'(name="stem\.silu" type="FakeQuantize".*?levels=")256', r"\g<1>65536"

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]


@pytest.fixture(scope="module")
def int8(artifact_of: ArtifactOf) -> Artifact:
    return artifact_of("openvino", "int8", "plain")


@pytest.fixture
def copy(int8: Artifact, tmp_path: Path) -> Path:
    """A folder to change."""
    return Path(shutil.copytree(int8.file.path, tmp_path / "copy.openvino"))


def changed(folder: Path, pattern: str, new: str) -> Artifact:
    """The folder with the first match in its XML replaced."""
    text, count = re.subn(pattern, new, (folder / MODEL).read_text(encoding="utf-8"), count=1, flags=re.DOTALL)
    assert count == 1
    (folder / MODEL).write_text(text, encoding="utf-8")
    return Artifact(target="openvino", precision="int8", file=stored_file(folder))


def test_openvino_itself_reads_the_folder_and_what_it_says(int8: Artifact, images: Images) -> None:
    assert {path.name for path in int8.file.path.iterdir()} == {"model.xml", "model.bin"}
    model = core().read_model(int8.file.path / "model.xml")
    assert model.get_rt_info(["rexnet_export", "labels"]).astype(str) == TARGET.inspect(int8).metadata["labels"]
    settings = {"INFERENCE_PRECISION_HINT": "f32"} | ({"LP_TRANSFORMS_MODE": "NO"} if saturates() else {})
    compiled = core().compile_model(model, "CPU", settings)
    wanted = TARGET.open(int8).run(images)
    # Any batch, as its dimension is open; other kernels compute it, in whose SiLUs other numbers fall on halves.
    assert signal_to_noise(wanted, compiled(images)["logits"]) > 20
    model.reshape([1, *images.shape[1:]])
    compiled = core().compile_model(model, "CPU", settings)
    np.testing.assert_array_equal(np.concatenate([compiled(image[None])["logits"].copy() for image in images]), wanted)


def test_every_product_runs_in_int8_here(int8: Artifact) -> None:
    precisions = open_session(int8.file.path).products()
    assert len(precisions) == 28
    assert set(precisions.values()) <= {"u8", "i8"}


def test_a_file_that_runs_in_float_is_refused(copy: Path) -> None:
    changed(copy, *WIDE)
    wanted = r"computes 1 of 28 layers of copy\.openvino in float, first features\.0\.depthwise; report"
    with pytest.raises(ConversionError, match=wanted):
        open_session(copy).require_integers()


def test_other_processors_are_not_asked(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(copy, *WIDE)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    open_session(copy).require_integers()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_trace_is_that_of_the_float_graph(
    artifact_of: ArtifactOf, sources: Sources, images: Images, precision: Precision
) -> None:
    found = TARGET.open(artifact_of("openvino", precision, "plain")).trace(images[:2])
    wanted = float_trace(sources["fp32"].float_onnx.path).trace(images[:2])
    assert found.keys() <= wanted.keys()
    assert len(found) > 60
    for name, values in found.items():
        assert signal_to_noise(wanted[name], values) > (100 if precision == "fp32" else 40), name


def test_a_weight_beyond_float16_is_an_error(sources: Sources) -> None:
    model = onnx.load(sources["fp32"].float_onnx.path)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "logits.weight")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] = 1e6
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(ConversionError, match=r"logits\.weight holds 1e\+06, beyond float16; use --fp32"):
        lower(model, ["logits"], half=True)


def test_an_operator_that_is_not_known_is_named(sources: Sources) -> None:
    model = onnx.load(sources["fp32"].float_onnx.path)
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Erf"
    with pytest.raises(
        ConversionError, match=r"node 'stem\.sigmoid' has operator Erf; OpenVINO's lowering knows Add, "
    ):
        lower(model, ["logits"])


def test_without_openvino_it_is_said_how_to_get_it(int8: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    wanted = r"OpenVINO needs openvino; run: .*(?:\[|--extra )openvino\b.*"
    with pytest.raises(TargetUnavailable, match=wanted):
        TARGET.require()
    with pytest.raises(TargetUnavailable, match=wanted):
        TARGET.open(int8)
    assert TARGET.inspect(int8).altered == []  # reading needs nothing


def test_nobody_is_told_that_it_is_used(int8: Artifact, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rexnet_export.targets.openvino.session import open_session\n"
        "open_session(Path(sys.argv[1]))\n"
        "sys.exit('openvino' not in sys.modules or 'openvino_telemetry' in sys.modules)"
    )
    command = [sys.executable, "-P", "-c", code, str(int8.file.path)]
    assert subprocess.run(command, env=os.environ | {"HOME": str(tmp_path)}, check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []


HOSTILE = {
    "entities": (r"<net ", '<!DOCTYPE net [<!ENTITY a "aaaa">]><net ', "it has declarations"),
    "another version": (r'version="11"', 'version="12"', "version 12, not an IR of version 11"),
    "a foreign layer": (r'type="Sigmoid"', 'type="Loop"', "is a 'Loop', which ours have not"),
    "a huge constant": (r'shape="32, 4, 3, 3"', 'shape="999999, 999999, 3, 3"', "is 1152 bytes at"),
    "beyond the numbers": (r'offset="\d+" size="1152"', 'offset="999999999" size="1152"', "is 1152 bytes at 999999999"),
    "digits without end": (r'size="1152"', f'size="{"9" * 5000}"', "is no number of elements"),
    "a huge image": (r"<dim>32</dim>", "<dim>99999999</dim>", "makes .*, more than 2,147,483,648 numbers"),
    "a circle": (r'from-layer="\d+" from-port="2" to-layer="22"', 'from-layer="22" to-layer="22"', "22 reads 22"),
    "one name twice": (r'name="stem.sigmoid"', 'name="stem"', "two layers have one name"),
    "elements without end": ("</net>", "<a/>" * 2**20 + "</net>", "more than 1,048,576 elements"),
    "two lists of layers": ("<layers>", "<layers></layers><layers>", "not one list of layers"),
    "a name without end": (r'name="stem\.sigmoid"', f'name="{"s" * 9999}"', "which ours have not"),
    "a version without end": (r'version="11"', f'version="{"1" * 9999}"', "version 111"),
    "a missing edge": (r'<edge from-layer="\d+" from-port="\d+" to-layer="(\d+)" to-port="0" />\s*</edges>', "</edges>",
                       r"\(Result\) reads 0 tensors, not 1"),
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "new", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_one_line(copy: Path, pattern: str, new: str, reason: str) -> None:
    artifact = changed(copy, pattern, new)
    for read in (lambda: TARGET.inspect(artifact).coverage, lambda: TARGET.open(artifact)):
        with pytest.raises(ConversionError, match=reason) as caught:
            read()
        assert "copy.openvino" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_declarations_in_another_encoding_are_not_read(copy: Path) -> None:
    text = (copy / MODEL).read_text(encoding="utf-8").partition("?>")[2]
    hidden = f'<?xml version="1.0" encoding="utf-16"?><!DOCTYPE net [<!ENTITY a "aaaa">]>{text}'
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        (copy / MODEL).write_bytes(hidden.encode(encoding))
        with pytest.raises(ConversionError, match=r"copy\.openvino: model\.xml cannot be read"):
            read_ir(copy)


def test_a_chain_that_is_read_twice_at_each_step_takes_no_time(copy: Path) -> None:
    """A layer's readers are asked for once, not once for each way to them: here are 2**60."""
    text = (copy / MODEL).read_text(encoding="utf-8")
    layer = (
        '<layer id="{0}" name="{1}" type="{2}" version="opset1"><output><port id="0"><dim>-1</dim></port></output>'
        "</layer>"
    )
    edge = '<edge from-layer="{}" from-port="0" to-layer="{}" to-port="{}" />'
    layers, edges, last = [], [], re.search(r'id="(\d+)" name="stem\.silu" type="FakeQuantize"', text)[1]  # type: ignore[index]
    for step in range(60):
        clamp, addition = f"8{step:03}", f"9{step:03}"
        # By its name the clamp is a parameter, so the addition reads one number.
        layers += [layer.format(clamp, f"clamp{step}.dq", "Clamp"), layer.format(addition, f"add{step}", "Add")]
        edges += [edge.format(last, clamp, 0), edge.format(last, addition, 0), edge.format(clamp, addition, 1)]
        last = addition
    layers.append(layer.format("9999", "end", "FakeQuantize"))
    edges += [edge.format(last, "9999", port) for port in range(5)]
    text = text.replace("</layers>", "".join(layers) + "</layers>").replace("</edges>", "".join(edges) + "</edges>")
    (copy / MODEL).write_text(text, encoding="utf-8")
    assert count_arithmetic(read_ir(copy)).total_macs > 0


def test_what_openvino_says_is_told_not_where_it_says_it(copy: Path) -> None:
    artifact = changed(copy, r'shape="\?,32,32,3"', 'shape="?,31,32,7"')
    with pytest.raises(ConversionError, match=r"^OpenVINO cannot open copy\.openvino: (?!Exception from)") as caught:
        TARGET.open(artifact)
    assert "src/" not in str(caught.value)


def test_a_grid_on_which_zero_is_no_integer_is_an_error(copy: Path) -> None:
    graph = read_ir(copy)
    _, low, *_ = graph.layers["stem.silu"].inputs
    place = (copy / MODEL).read_text(encoding="utf-8")
    offset = int(re.search(rf'name="{re.escape(low)}".*?offset="(\d+)"', place, re.DOTALL)[1])  # type: ignore[index]
    numbers = bytearray((copy / WEIGHTS).read_bytes())
    numbers[offset : offset + 4] = np.float32(-1.234).tobytes()
    (copy / WEIGHTS).write_bytes(numbers)
    artifact = Artifact(target="openvino", precision="int8", file=stored_file(copy))
    with pytest.raises(
        ConversionError, match=r"copy\.openvino: stem\.silu has the range -1\.23.* in which 0 is no integer"
    ):
        _ = TARGET.inspect(artifact).qparams
