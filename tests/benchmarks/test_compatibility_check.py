"""The check of other people's runtimes: what differs fails, what cannot be installed is said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import compatibility_check
import numpy as np
import pytest
from compatibility import Row


def row(client: str, file: str, same: float | None, runtime: str = "it 1.0, CPU") -> Row:
    return Row(client=client, file=file, runtime=runtime, answer="what it said", same=same)


@pytest.mark.parametrize(
    ("answer", "saturated", "said"),
    [
        (row("mediapipe", "a-int8.tflite", 1.0), False, None),
        (row("mediapipe", "a-int8.tflite", 39 / 40), True, "97.5% of the images, and should be for 100.0%"),
        (row("openvino", "a-int8.onnx", 39 / 40), False, None),
        (row("openvino", "a-int8.onnx", 38 / 40), False, "95.0% of the images, and should be for 97.5%"),
        (row("openvino", "a-int8.onnx", 36 / 40), True, None),
        (row("openvino", "a-int8.onnx", 35 / 40), True, "87.5% of the images, and should be for 90.0%"),
        (row("openvino", "a-int8.onnx", None), False, "what it said"),
        (row("qnn-htp", "a-int8-npu.onnx", 39 / 40, "qnn 2, HTP, 1 partition"), False, None),
        (row("qnn-htp", "a-int8-npu.onnx", 38 / 40, "qnn 2, HTP, 1 partition"), True, "should be for 97.5%"),
        (row("qnn-htp", "a-int8-npu.onnx", 1.0, "qnn 2, HTP, 11 partitions"), False, "not whole on the NPU"),
        (row("qnn-htp", "a-int8-npu.onnx", None), False, "what it said"),
        (row("qnn-htp", "a-int8.onnx", None), False, None),
        (row("qnn-htp", "a-int8-x86.onnx", None), False, None),
    ],
    ids=range(13),
)
def test_each_answer_has_a_bound(answer: Row, saturated: bool, said: str | None) -> None:  # noqa: FBT001
    problem = compatibility_check.problem(answer, saturated=saturated)
    assert (problem is None) == (said is None)
    assert (said or "") in (problem or "")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command on a folder with one file, with a client that answers so."""
    (tmp_path / "a-int8.tflite").touch()
    monkeypatch.setattr(compatibility_check, "images_for", lambda *_: np.zeros((1, 1, 1, 3), np.uint8))
    monkeypatch.setattr(compatibility_check, "environment", lambda *_: Path("python"))
    monkeypatch.setattr(compatibility_check, "saturates", lambda: False)

    def run(same: float, *clients: str) -> int:
        monkeypatch.setattr(compatibility_check, "asked", lambda name, _, file, *__: row(name, file.name, same))
        monkeypatch.setattr("sys.argv", ["check", str(tmp_path), "--clients", *clients])
        return compatibility_check.main()

    return run


def test_one_that_differs_fails(ask: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(1.0, "mediapipe", "openvino") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert ask(0.9, "mediapipe") == 1
    assert "differs: mediapipe, a-int8.tflite: the same best class for 90.0%" in capsys.readouterr().err
    assert ask(1.0, "qnn-htp") == 1
    assert "has no file for it" in capsys.readouterr().err


def test_without_network_nothing_fails(
    ask: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> Path:
        raise subprocess.CalledProcessError(2, "uv")

    monkeypatch.setattr(compatibility_check, "environment", refused)
    assert ask(0.0, "mediapipe", "openvino") == 0
    assert [line.split(":")[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["mediapipe", " not checked"],
        ["openvino", " not checked"],
    ]
