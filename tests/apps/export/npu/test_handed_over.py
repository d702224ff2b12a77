"""What LiteRT handed to Qualcomm's compiler is the file's to the last digit, or it is said."""

import json
from pathlib import Path
from typing import Any

import pytest
from compiled_files import compiler, portable_file

from rexnet_export.apps.export.command import main
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return portable_file(tmp_path / "small-int8.tflite")


def graph_json(graph: Graph, change: float = 0.0) -> dict[str, Any]:
    """The graph as LiteRT's plugin writes it, every scale in its place; weights by the operator that reads them."""
    weights = {int(o.inputs[1]): n for n, o in enumerate(graph.operators) if "CONV" in graph.kind(o)}
    tensors: dict[str, Any] = {"7_qnn": {"dims": [1]}}
    nodes: dict[str, Any] = {}
    for index in graph.indices():
        params = graph.quantization(index)
        if params is None:
            continue
        if graph.type(index) == "INT32":  # a bias has no parameters of its own there
            tensors[f"9_litert_{index}"] = {"dims": []}
            continue
        pairs = zip(params.scale, params.zero_point, strict=True)
        steps = [{"scale": scale + change, "offset": -point, "bitwidth": 8} for scale, point in pairs]
        one = {"scale_offset": steps[0]}
        several = {"axis_scale_offset": {"axis": 3, "scale_offsets": steps}}
        name = f"9_litert_{index}"
        if index in weights:
            name = f"{index}_qnn"
            nodes[f"a/Conv2d_1_LiteRt_OpId_{weights[index]}"] = {"type": "Conv2d", "input_names": ["x", name]}
        tensors[name] = {"dims": [], "quant_params": one if len(steps) == 1 else several}
    return {"graph": {"nodes": nodes, "tensors": tensors}, "op_types": []}


def writes_graph(tmp_path: Path, file: Path, change: float = 0.0) -> str:
    (tmp_path / "graph.json").write_text(json.dumps(graph_json(read_graph(file), change)))
    text = f"pathlib.Path({str(tmp_path / 'graph.json')!r}).read_text()"
    return f"pathlib.Path(flags['qualcomm_ir_json_dir'], 'qnn_partition_0.json').write_text({text})"


def writes_recording(tmp_path: Path, file: Path, change: int = 0, lost: int = 0) -> str:
    """Weights and bias as QNN's recorder writes them: first what the plugin asked about, then tensors of the graph."""
    graph = read_graph(file)
    weights, bias = (int(index) for index in graph.operators[1].inputs[1:])
    content = {
        f"{weights}_qnn": graph.values(weights).transpose(1, 2, 3, 0).tobytes(),
        f"9_litert_{bias}": (graph.values(bias) + change).tobytes(),
    }
    calls = [*_recorded("asked", "5_qnn", 12), *_recorded("weights", f"{weights}_qnn", 12, made=True)]
    calls += _recorded("bias", f"9_litert_{bias}", 16, made=True)
    (tmp_path / "saver_output.c").write_text("\n".join(calls))
    arrays = bytes(12) + b"".join(content.values())
    (tmp_path / "params.bin").write_bytes(arrays[: len(arrays) - lost])
    return f"""folder = flags.get('qualcomm_saver_output_dir')
for name in ('saver_output.c', 'params.bin') if folder else ():
    pathlib.Path(folder, name).write_bytes(pathlib.Path({str(tmp_path)!r}, name).read_bytes())"""


def _recorded(variable: str, name: str, size: int, *, made: bool = False) -> list[str]:
    create = f"  VALIDATE(error, interface.tensorCreateGraphTensor(graph_0, &{variable}));"
    return [
        f"  fread({variable}_data, 1, {size}, fp);",
        f'  Qnn_TensorV2_t {variable}_v2 = {{0, "{name}", (Qnn_TensorType_t)4, 0}};',
        *([create] if made else []),
    ]


def test_every_tensor_is_compared(tmp_path: Path, file: Path) -> None:
    more = f"{writes_graph(tmp_path, file)}\n{writes_recording(tmp_path, file)}"
    packages = compiler(tmp_path, file, more=more)
    assert main(["npu", str(file), "--chips", "SM8650,SA8295", "--environment", str(packages), "--quiet"]) == 0
    record = json.loads((tmp_path / "small-int8-npu" / "npu.json").read_text())
    for one in record["chips"]:
        assert one["parameters"] == {"activations": 6, "weights": 1, "integers": 2, "not_seen": []}


def test_a_scale_that_was_changed_on_the_way_is_an_error(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = compiler(tmp_path, file, more=writes_graph(tmp_path, file, change=1e-3))
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(packages)]) == 12
    assert "another scale or zero point" in capfd.readouterr().err
    assert not (tmp_path / "small-int8-npu").exists()


def test_an_integer_that_was_changed_on_the_way_is_an_error(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = f"{writes_graph(tmp_path, file)}\n{writes_recording(tmp_path, file, change=1)}"
    packages = compiler(tmp_path, file, more=more)
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(packages)]) == 12
    assert "stem.bias was handed to the compiler with other integers" in capfd.readouterr().err
    assert not (tmp_path / "small-int8-npu").exists()


def test_what_was_recorded_by_no_name_of_the_file_is_named(tmp_path: Path, file: Path) -> None:
    recording = writes_recording(tmp_path, file)
    calls = (tmp_path / "saver_output.c").read_text()
    (tmp_path / "saver_output.c").write_text(calls.replace('"9_litert_', '"another_'))
    packages = compiler(tmp_path, file, more=f"{writes_graph(tmp_path, file)}\n{recording}")
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(packages), "--quiet"]) == 0
    (one,) = json.loads((tmp_path / "small-int8-npu" / "npu.json").read_text())["chips"]
    assert one["parameters"] == {"activations": 6, "weights": 1, "integers": 1, "not_seen": ["stem.bias"]}


@pytest.mark.parametrize(
    ("more", "lost", "reason"),
    [
        ("", 0, "left no saver_output.c and params.bin"),
        ("if folder: pathlib.Path(flags['qualcomm_ir_json_dir'], 'qnn_partition_0.json').unlink()", 0, "another graph"),
        ("if folder: pathlib.Path(folder, 'qnn_partition_0.json').write_text('{')", 0, "cannot be read"),
        ("pass", 1, "stopped halfway: params.bin has 39 bytes, saver_output.c reads 40"),
    ],
)
def test_integers_that_were_not_recorded_are_not_measured(
    tmp_path: Path, file: Path, more: str, lost: int, reason: str
) -> None:
    recording = writes_recording(tmp_path, file, lost=lost) if more else ""
    packages = compiler(tmp_path, file, more="\n".join([writes_graph(tmp_path, file), recording, more]))
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(packages), "--quiet"]) == 0
    (one,) = json.loads((tmp_path / "small-int8-npu" / "npu.json").read_text())["chips"]
    assert reason in one["parameters"]["integers"]["not_measured"]
    assert one["parameters"]["activations"] == 6
