"""Which file is picked, and what is said where none can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.sweep.findings import Counts, against_best
from rexnet_export.apps.export.sweep.sweep_json import Best, FileRow, SweepJson, TimedRow, TimingsJson, TrialRow
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.records import NotMeasured, file_sha256

IMAGES = 2000
GOOD, BAD, UNSURE = (2, 2), (200, 10), (14, 10)  # worse and better than the best float network


type Files = dict[str, tuple[tuple[int, int] | None, int, float | None]]


def sweep(folder: Path, files: Files) -> Path:
    """A finished sweep of one file a trial: its counts, bytes and milliseconds."""
    found = {n: ("tflite", Counts(worse=c[0], better=c[1], images=IMAGES)) for n, (c, _, _) in files.items() if c}
    best = against_best(dict(found), 0.005)
    rows, times = [], {}
    for name, (_, size, ms) in files.items():
        (folder / name).write_bytes(b"x" * size)
        accuracy = Accuracy(n=IMAGES, top1=0.9, reference_top1=0.9, drop=0.0, drop_lower_95=-0.01, drop_upper_95=0.001)
        file = FileRow(
            name="tflite",
            file=name,
            sha256=file_sha256(folder / name),
            bytes=size,
            accuracy=accuracy,
            against_best=best.get(name, NotMeasured(reason="the images have no labels")),
            on_size_front=False,
        )
        asked: dict[str, Any] = {"checkpoint": None, "image_size": 32, "effort": "fast", "precision": "int8"}
        rows.append(TrialRow(name=name, **asked, target="tflite", failure=None, files=(file,)))
        if ms is not None:
            times[name] = TimedRow(p50_ms=ms, p90_ms=ms, n=100, on_speed_front=False)
    record = SweepJson(
        margin=0.005, images=IMAGES, images_sha256="0" * 64, best=Best(trial="a", top1=0.9), trials=tuple(rows)
    )
    (folder / "sweep.json").write_text(to_text(record.to_json()))
    (folder / "timings.json").write_text(to_text(TimingsJson(machine="it", files=times).to_json()))
    return folder


def pick(folder: Path, *flags: str) -> int:
    return main(["sweep", "pick", str(folder), "--target", "tflite", "--quiet", *flags])


def test_the_fastest_that_keeps_the_bound(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sweep(
        tmp_path, {"slow": (GOOD, 10, 3.0), "fast": (GOOD, 30, 2.0), "bad": (BAD, 1, 1.0), "unsure": (UNSURE, 1, 1.0)}
    )
    assert pick(tmp_path, "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert said["picked"]["trial"] == "fast"
    assert said["candidates"] == 4
    assert pick(tmp_path, "--max-drop", "20") == 0
    assert capfd.readouterr().out.strip() == str(tmp_path / "bad")


def test_the_smallest_where_not_all_were_timed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path, {"large": (GOOD, 30, 1.0), "small": (GOOD, 10, None)})
    assert pick(tmp_path) == 0
    assert capfd.readouterr().out.strip() == str(tmp_path / "small")


def test_one_candidate_passes_where_many_alike_do_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    close = (1, 0)  # p 0.0066 alone
    sweep(tmp_path, {"one": (close, 10, 1.0)})
    assert pick(tmp_path) == 0
    sweep(tmp_path, {str(n): (close, 10, 1.0) for n in range(40)})
    assert pick(tmp_path) == 3
    assert "none of 40 candidates is shown to lose less than 0.5 points" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("files", "flags", "code", "said"),
    [
        ({"a": (BAD, 1, 1.0), "b": (BAD, 2, 1.0)}, (), 1, "every one of 2 candidates loses more than 0.5 points"),
        ({"a": (BAD, 1, 1.0), "b": (UNSURE, 2, 1.0)}, (), 3, "b comes nearest"),
        ({"a": (None, 1, 1.0)}, (), 3, "the images have no labels"),
        ({"a": (GOOD, 1, 1.0)}, ("--max-drop", "0"), 2, "--max-drop 0"),
        ({"a": (GOOD, 1, 1.0)}, ("--max-drop", "nan"), 2, "--max-drop nan"),
        ({"a": (GOOD, 1, 1.0)}, ("--target", "ort"), 2, "no such file; it has tflite"),
    ],
)
def test_where_none_can_be_picked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], files: Files, flags: tuple[str, ...], code: int, said: str
) -> None:
    assert pick(sweep(tmp_path, files), *flags) == code
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_file_that_is_not_what_was_measured_is_not_picked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (sweep(tmp_path, {"a": (GOOD, 9, 1.0)}) / "a").write_bytes(b"other")
    assert pick(tmp_path) == 12
    (tmp_path / "a").unlink()
    assert pick(tmp_path) == 12
    (tmp_path / "sweep.json").write_text("{}")
    assert pick(tmp_path) == 12
    (tmp_path / "sweep.json").unlink()
    assert pick(tmp_path) == 2
    assert capfd.readouterr().err.count("\n") == 4
