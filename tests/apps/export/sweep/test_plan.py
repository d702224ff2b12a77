"""What a sweep's file may say, and what it comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from rexnet_export.apps.export.sweep.plan import TRIALS, read_plan
from rexnet_export.pipeline.core.errors import CheckpointError, DataError, ExportError, UsageError


def plan(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "sweep.toml").write_text(text, encoding="utf-8")
    return [trial.name for trial in read_plan(tmp_path / "sweep.toml", tmp_path / "out")]


def test_the_product_without_what_is_excluded(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.pth").touch()
    one, two = tmp_path / "one" / "net.pth", tmp_path / "two" / "net.pth"
    text = f"""
        checkpoints = ["{one}", "{two}"]
        image-sizes = [32, [32, 64]]
        efforts = ["fast", "high"]
        precisions = ["int8", "fp32"]
        targets = ["tflite", "coreml"]
        [[exclude]]
        checkpoint = "{two}"
        image-size = 32
        [[exclude]]
        effort = "high"
        target = "coreml"
        [[exclude]]
        precision = "fp32"
        target = "tflite"
        [[exclude]]
        effort = "high"
        checkpoint = "{two}"
    """
    assert plan(tmp_path, text) == [
        "net-32-fast-int8-tflite",
        "net-32-fast-int8-coreml",
        "net-32-fp32-coreml",
        "net-32-high-int8-tflite",
        "net-32x64-fast-int8-tflite",
        "net-32x64-fast-int8-coreml",
        "net-32x64-fp32-coreml",
        "net-32x64-high-int8-tflite",
        "net~2-32x64-fast-int8-tflite",
        "net~2-32x64-fast-int8-coreml",
        "net~2-32x64-fp32-coreml",
    ]


def test_what_is_not_named_is_as_in_one_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").touch()
    (tmp_path / "sweep.toml").write_text('targets = ["tflite"]\n[options]\neval-images = 7\nlabels = "names.txt"\n')
    (trial,) = read_plan(tmp_path / "sweep.toml", tmp_path / "out")
    assert trial.name == "bundled-default-int8-tflite"
    assert trial.options.checkpoint is None
    assert trial.options.eval_images == 7
    assert trial.options.labels == Path.cwd() / "names.txt"
    assert trial.options.output == tmp_path / "out" / TRIALS / trial.name


def test_efforts_make_no_difference_where_nothing_is_quantized(tmp_path: Path) -> None:
    text = 'efforts = ["fast", "high"]\nprecisions = ["fp32"]\ntargets = ["tflite"]'
    assert plan(tmp_path, text) == ["bundled-fp32-tflite"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "is not TOML"),
        ("epochs = 3", "unknown key 'epochs'; choose one of checkpoints, image-sizes"),
        ("targets = []", r"targets = \[\] is no list"),
        ('targets = "tflite"', "is no list"),
        ('targets = ["ios"]', "ios: choose one of coreml, tflite"),
        ('targets = ["all"]', "all: choose one of coreml, tflite"),
        ('targets = ["tflite", "tflite"]', "says something twice"),
        ("image-sizes = [33]", "multiple of 16"),
        ('image-sizes = ["x"]', "is not of type"),
        ('efforts = ["harder"]', "choose one of fast, default, high"),
        ('precisions = ["int4"]', "choose one of int8, fp16, fp32"),
        ('targets = ["ort"]\nprecisions = ["fp16"]', r'ort has no fp16: add \[\[exclude\]\] with target = "ort"'),
        ('[options]\neffort = "fast"', r"write it as efforts = \[...\]"),
        ('[options]\noutput = "x"', "give it on the command line"),
        ("[options]\nepochs = 1", "unknown key 'epochs'"),
        ("options = 1", "options is a table"),
        ('[exclude]\ntarget = "ort"', "a table of its own"),
        ("[[exclude]]", "give one or more of checkpoint, image-size"),
        ('[[exclude]]\nlabels = "x"', "give one or more of checkpoint, image-size"),
        ('targets = ["tflite"]\n[[exclude]]\ntarget = "ort"', "fits none of the 1 combinations"),
        ('targets = ["tflite"]\n[[exclude]]\ntarget = "tflite"', "all 1 combinations are excluded"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        plan(tmp_path, text)
    assert "\n" not in str(raised.value)
    assert "sweep.toml" in str(raised.value)


def test_a_missing_checkpoint_or_file_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth does not exist; nothing of the sweep was begun"):
        plan(tmp_path, 'checkpoints = ["nowhere.pth"]')
    with pytest.raises(DataError, match=r"^eval-data nowhere does not exist; nothing of the sweep was begun"):
        plan(tmp_path, '[options]\neval-data = "nowhere"')
    with pytest.raises(ExportError, match="No such file"):
        read_plan(tmp_path / "none.toml", tmp_path)
