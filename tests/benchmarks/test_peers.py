"""Turns over pipes, the floor's arithmetic, other families' graphs and the tables, with stand-ins for what is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import peer_floor
import peer_networks
import peer_table
import peer_worker
import peers
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from peer_files import Peer
from peer_floor import Work
from peer_table import Timed

from rexnet_export.pipeline.core.records import NotMeasured

STAND_IN = (
    "import sys\nprint('{\"amount\": 7}', flush=True)\nfor n, _ in enumerate(sys.stdin): print(1000 + n, flush=True)"
)
DIES_LATER = "import sys\nprint('{}', flush=True)\nsys.stdin.readline()\n"
DYING = "import sys\nsys.exit('no such runtime')"
WORK = Work(macs=300, weights=30, activations=20)
RATES = {"int8": 100.0, "float32": 25.0, "cache": 1000.0}


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_each_is_run_once_a_round_and_the_first_runs_do_not_count(tmp_path: Path) -> None:
    found = peers.in_turns({"a": program(STAND_IN), "b": program(STAND_IN)}, 3, tmp_path)
    assert found == {name: Timed({"amount": 7}, [1005, 1006, 1007]) for name in "ab"}


def test_one_that_cannot_start_says_why_and_stops_nothing(tmp_path: Path) -> None:
    none = NotMeasured(reason="no file")
    found = peers.in_turns({"a": program(DYING), "b": none, "c": program(STAND_IN)}, 1, tmp_path)
    assert found == {"a": NotMeasured(reason="no such runtime"), "b": none, "c": Timed({"amount": 7}, [1005])}


def test_one_that_ends_between_two_rounds_ends_all(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="out of memory"):
        peers.in_turns({"a": program(f"{DIES_LATER}sys.exit('out of memory')")}, 1, tmp_path)


def test_work_is_counted_for_one_image() -> None:
    weights = {"k": np.zeros((8, 2, 3, 3)), "kb": np.zeros(8), "m": np.zeros((5, 8)), "mb": np.zeros(5)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "k", "kb"], ["maps"], kernel_shape=[3, 3], group=2),
            helper.make_node("GlobalAveragePool", ["maps"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "m", "mb"], ["logits"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    convolution, matrix = 8 * 4 * 4 * 2 * 9, 5 * 8
    assert peer_floor.work_of(helper.make_model(graph)) == Work(
        macs=convolution + matrix,
        weights=8 * 18 + 8 + 40 + 5,
        activations=4 * 36 + 8 * 16 + 8 + 5,
    )


@pytest.mark.parametrize(
    ("numbers", "cache", "products_ms", "bytes_ms", "least"),
    [("int8", 1000.0, 3000, 50, 3000), ("float32", 1000.0, 12000, 200, 12000), ("int8", 10.0, 3000, 5000, 5000)],
)
def test_the_floor_is_the_slower_of_products_and_bytes(
    numbers: str, cache: float, products_ms: float, bytes_ms: float, least: float
) -> None:
    found = peer_floor.floor(WORK, numbers, RATES | {"cache": cache})
    assert (found.products_ms, found.bytes_ms, found.ms) == pytest.approx((products_ms, bytes_ms, least))


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNet-Lite0"])
def test_a_network_of_timm_is_the_graph_that_is_quantized(name: str) -> None:
    model = peer_networks.core_of(name, classes=3, size=32)
    image = np.random.default_rng(0).normal(size=(2, 4, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    torch.manual_seed(0)
    network = timm.create_model(peer_networks.TIMM[name], in_chans=4, num_classes=3).eval()
    with torch.no_grad():
        wanted = network(torch.from_numpy(image)).numpy()
    assert np.abs(session.run(None, {"input": image})[0] - wanted).max() < 1e-4 * np.abs(wanted).max()


def peer(title: str, *, runtime: str = "R", ours: bool = False) -> Peer:
    return Peer(network="N", runtime=runtime, opener="r", title=title, numbers="int8", file=Path("f"), ours=ours)


def timed(*nanoseconds: int) -> Timed:
    return Timed({"by": "it 1.0"}, [1_000_000 * each for each in nanoseconds])


def test_a_row_has_its_times_and_is_beside_ours_and_the_floor() -> None:
    asked = [peer("slow", ours=True), peer("quick", ours=True), peer("theirs"), peer("best", runtime="Q", ours=True)]
    took = [timed(*range(20, 30)), timed(*range(10, 20)), timed(*range(30, 50, 2)), timed(*[5] * 10)]
    limits = {name: Timed({"amount": rate / 1000}, [1_000_000, 2_000_000]) for name, rate in RATES.items()}
    lines = peer_table.page(64, asked, took, limits, {"N": WORK}).splitlines()
    assert lines[0] == "64 px, n = 10"
    row = next(line for line in lines if "theirs" in line)
    # 30, 32, ... 48 over 10, 11, ... 19: 3 to 2.53, the median that of 34/12 ... 40/15
    assert row.startswith("| N | R | theirs | int8 | 30.00 | 38.00 | 46.00 | 2.69 (")
    assert row.endswith(" | 7.80 (6.40 to 9.20) | 0.0 |")
    assert "| N | R | **quick** | int8 | 10.00 | 14.00 | 18.00 | 1 | " in "\n".join(lines)
    assert "| N | 0.0 M | 0.0 M | 0.0 M | 3000.00 and 50.00 ms | - | 12000.00 and 200.00 ms |" in lines


def test_what_was_not_measured_says_why() -> None:
    text = peer_table.page(64, [peer("a")], [NotMeasured(reason="no g++")], {"int8": NotMeasured(reason="none")}, {})
    assert "| N | R | a | int8 | - | - | - | - | - | - |" in text
    assert "- N, R, a, int8: not measured, no g++" in text
    assert "| products of INT8 (VNNI) | - | none |" in text


def test_a_worker_answers_each_line_with_nanoseconds(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.full((1, 2, 2, 3), 5, np.uint8))
    code = (
        "import peer_worker\n"
        "def opened(file, image):\n"
        "    print('chatter')\n"
        "    return peer_worker.Opened(file, lambda: image[0, 0].astype('float32'))\n"
        "peer_worker.OPENERS = {'it': opened}\n"
        "peer_worker.main('it', 'some.file', 'image.npy')\n"
    )
    path = {"PYTHONPATH": str(Path(peer_worker.__file__).parent)}
    done = subprocess.run(
        program(code), input="\n\n", capture_output=True, text=True, check=True, cwd=tmp_path, env=path
    )
    said, *spent = done.stdout.splitlines()
    assert json.loads(said) == {"by": "some.file", "computes": {}, "logits": [5.0] * 6}
    assert len(spent) == 2
    assert all(int(each) >= 0 for each in spent)
    assert done.stderr == "chatter\n"
