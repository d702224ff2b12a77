"""What a device's result says must follow from its raw arrays, and it must be the one that was completed."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_results import device_result, seal

from rexnet_export.apps.bench.command import main
from rexnet_export.apps.bench.result.recompute import completed_result
from rexnet_export.pipeline.core.errors import DataError


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return device_result(tmp_path)


def edit(result: Path, where: str, value: object) -> Path:
    """Change one value of the result, and make its digests fit."""
    content = json.loads((result / "result.json").read_text())
    place: Any = content
    *steps, last = where.split(".")
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    (result / "result.json").write_text(json.dumps(content))
    return seal(result)


def test_a_completed_result_is_believed(result: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert completed_result(result) == completed_result(result / "result.json")
    assert main(["compare", str(result), str(result), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["p50_ratio_b_to_a"] == 1


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("latency.p50_ns", 1),
        ("latency.p90_ns", 1),
        ("latency.p99_ns", 1),
        ("latency.mean_ns", 1),
        ("latency.min_ns", 1),
        ("latency.n", 801),
        ("latency.blocks.1.median_ns", 1),
        ("paired.ratio_median", 0.1),
        ("paired.ci_high", 0.1),
        ("accuracy.top1", 0.9),
        ("accuracy.top5", 1.0),
        ("accuracy.predictions_sha256", "0" * 64),
        ("parity.max_abs", 0.5),
        ("parity.top1_agreement", 0.5),
        ("environment.reference_kernel_ns_after", 5000),
        ("device.emulator", "qemu"),
    ],
)
def test_an_edited_value_is_refused_by_its_name(result: Path, where: str, value: object) -> None:
    expected = "validity.reasons" if where.split(".", maxsplit=1)[0] in {"environment", "device"} else where
    with pytest.raises(DataError, match=rf"not what was measured: .*{expected} says"):
        completed_result(edit(result, where, value))


def test_durations_that_were_invalid_cannot_be_called_valid(result: Path) -> None:
    raw = np.load(result / "raw_latency.npy")
    np.save(result / "raw_latency.npy", raw[:60])
    with pytest.raises(DataError, match="min_queries"):
        completed_result(seal(result))


@pytest.mark.parametrize("name", ["raw_latency.npy", "predictions.npy", "logits.npy", "labels.npy", "env_before.json"])
def test_an_altered_file_is_refused(result: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (result / name).write_bytes((result / name).read_bytes() + b" ")
    assert main(["compare", str(result), str(result)]) == 11
    assert f"{name} is not what its result was made from" in capfd.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("name", ["predictions.npy", "logits.npy", "labels.npy", "expected.npy", "raw_latency.npy"])
def test_arrays_that_do_not_fit_together_are_refused(result: Path, name: str) -> None:
    for values in (np.zeros((3, 3), np.int64), np.zeros(0), np.array("text"), np.zeros((2, 2, 2), np.float32)):
        np.save(result / name, values)
        with pytest.raises(DataError):
            completed_result(seal(result))


def test_a_run_that_did_not_end_has_no_result(result: Path) -> None:
    (result / "DONE").unlink()
    with pytest.raises(DataError, match="its run was not completed"):
        completed_result(result)
    os.mkfifo(result / "DONE")
    with pytest.raises(DataError, match="a pipe"):
        completed_result(result)
