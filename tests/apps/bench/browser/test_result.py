"""A result is made only of measurements that the page can have sent."""

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_results import upload as sent

from rexnet_export.apps.bench.browser.result import accept
from rexnet_export.apps.bench.result.host_result import Bundle
from rexnet_export.apps.bench.result.result import agreement, read_result
from rexnet_export.apps.bench.runner.archive import open_archive
from rexnet_export.pipeline.core.errors import DeviceError

VERSIONS = {"litert.js": "2.5.3", "onnxruntime-web": "1.30.0"}
TFLITE = "rexnet_050-int8.tflite"


@pytest.fixture(scope="module")
def unpacked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder, archive = tmp_path_factory.mktemp("unpacked"), open_archive(bundle)
    archive.unpack(folder)
    return Bundle(folder=folder, identity=archive.check(), plan=archive.read_object("plan.json"))


@pytest.fixture
def upload(unpacked: Bundle) -> dict[str, Any]:
    """What a browser sends that computes as the desktop does."""
    return sent(np.load(unpacked.folder / "expected" / f"{TFLITE}.npy"), TFLITE)


def test_measurements_become_a_result(upload: dict[str, Any], unpacked: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "out"
    accept(json.dumps(upload).encode(), unpacked, VERSIONS, output)
    result = read_result(output)
    assert result["validity"] == {"valid": True, "reasons": []}
    assert result["parity"] | {"verdict": "pass", "max_quant_steps": 0, "top1_agreement": 1} == result["parity"]
    assert result["device"] | {"kind": "android", "model": "Phone 7", "ram_bytes": 8 * 2**30} == result["device"]
    assert result["runtime"] | {"name": "litert.js", "version": "2.5.3", "process_kind": "browser"} == result["runtime"]
    assert result["latency"] | {"n": 800, "p50_ns": 1_100_000, "clock": "performance.now"} == result["latency"]
    assert result["paired"]["ratio_median"] == pytest.approx(0.55)  # medians of blocks: 1.1 ms and 2 ms
    assert result["environment"]["after"]["battery_pct"] == 79
    assert np.load(output / "raw_latency.npy").shape == (1600, 3)
    assert agreement(output, result, output, result)["flipped_images"] == 0
    named = {line[66:] for line in (output / "DONE").read_text().splitlines()}
    assert named == {path.name for path in output.iterdir()} - {"DONE"}
    with pytest.raises(DeviceError, match="not of this page: it is no JSON"):
        accept(b"{", unpacked, VERSIONS, tmp_path / "other")


def test_hidden_page_and_disturbed_clock_are_reasons(upload: dict[str, Any], unpacked: Bundle, tmp_path: Path) -> None:
    changed = upload | {"hidden": True, "kernel": [1000, 1500]}
    result = accept(json.dumps(changed).encode(), unpacked, VERSIONS, tmp_path / "out")
    assert result["validity"] == {"valid": False, "reasons": ["clock_changed", "page_hidden"]}


def test_other_logits_fail_parity(upload: dict[str, Any], unpacked: Bundle, tmp_path: Path) -> None:
    values = np.frombuffer(base64.b64decode(upload["logits"]), "<f4")
    for wrong in (-values, np.full_like(values, math.nan)):
        changed = upload | {"logits": base64.b64encode(wrong.tobytes()).decode()}
        if np.isnan(wrong).any():
            with pytest.raises(DeviceError, match="not finite"):
                accept(json.dumps(changed).encode(), unpacked, VERSIONS, tmp_path / "nan")
        else:
            result = accept(json.dumps(changed).encode(), unpacked, VERSIONS, tmp_path / "out")
            assert result["parity"]["verdict"] == "fail"


def block(upload: dict[str, Any], **changes: object) -> dict[str, Any]:
    pair = upload["pairs"][0]
    return upload | {"pairs": [pair | {"blocks": [pair["blocks"][0], pair["blocks"][1] | changes]}]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda u: [u], "not of this page", id="list"),
        pytest.param(lambda u: {**u, "more": 1}, "not of this page", id="unknown key"),
        pytest.param(lambda u: {k: v for k, v in u.items() if k != "load"}, "not of this page", id="missing key"),
        pytest.param(lambda u: u | {"warmup_s": math.nan}, "NaN", id="nan"),
        pytest.param(lambda u: u | {"warmup_s": math.inf}, "Infinity", id="infinity"),
        pytest.param(lambda u: u | {"artifact": "../labels.npy"}, "which the bundle has not", id="artifact"),
        pytest.param(lambda u: u | {"logits": u["logits"][:-8]}, "logits", id="fewer logits"),
        pytest.param(lambda u: u | {"logits": "AAAAA"}, "logits", id="no base64"),
        pytest.param(lambda u: u | {"logits": "%"}, "not of this page", id="other signs"),
        pytest.param(lambda u: u | {"pairs": []}, "not of this page", id="no pairs"),
        pytest.param(lambda u: block(u, durations_ns=[0]), "not of this page", id="no time"),
        pytest.param(lambda u: block(u, durations_ns=[1.5]), "not of this page", id="part of a nanosecond"),
        pytest.param(lambda u: block(u, arm="base"), "blocks of", id="base twice"),
    ],
)
def test_what_the_page_cannot_have_sent_is_refused(
    change: Callable[[dict[str, Any]], Any], says: str, upload: dict[str, Any], unpacked: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match=says):
        accept(json.dumps(change(upload)).encode(), unpacked, VERSIONS, tmp_path / "out")
    assert not list(tmp_path.iterdir())
