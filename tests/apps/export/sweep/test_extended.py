"""A sweep goes on with more trials and with fewer: its tables are those of one that was asked for the same at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from finished_trials import finish, finishing

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.sweep import run_sweep
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.trial import Exported
from rexnet_export.apps.shared.trials.journal import JOURNAL

NAMES = ("one", "two")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, untimed: None) -> list[str]:
    """The trials that have run, which make the records of an export and no more."""
    found: list[str] = []
    monkeypatch.setattr(run_sweep, "in_processes", finishing(found))
    return found


def plan(folder: Path, checkpoints: int, **axes: object) -> Path:
    for name in NAMES:
        if not (folder / f"{name}.pth").exists():
            (folder / f"{name}.pth").write_text(name)
    path = folder / "sweep.toml"
    asked = {"checkpoints": [f"{folder}/{name}.pth" for name in NAMES[:checkpoints]], **axes}
    path.write_text("".join(f"{key} = {value}\n" for key, value in asked.items()), encoding="utf-8")
    return path


def swept(plan: Path, output: Path, *flags: str) -> dict[str, bytes]:
    """The tables that repeat."""
    assert main(["sweep", str(plan), "--output", str(output), *flags]) == 0
    return {name: (output / name).read_bytes() for name in ("sweep.json", "sweep.csv")}


def test_what_is_new_is_added_and_what_is_done_is_kept(ran: list[str], tmp_path: Path) -> None:
    swept(plan(tmp_path, 1, targets=["tflite"], precisions=["fp32"], efforts=["high"]), tmp_path / "out")
    assert ran == ["one-fp32-tflite"]
    ran.clear()
    more = {"precisions": ["fp32", "int8"], "efforts": ["fast"], "targets": ["coreml", "tflite"]}
    together = swept(plan(tmp_path, 2, **more), tmp_path / "out", "--resume")
    names = [f"{name}-{how}-{target}" for name in NAMES for how in ("fp32", "fast-int8") for target in more["targets"]]
    assert sorted(ran) == sorted({*names} - {"one-fp32-tflite"})
    ran.clear()
    assert swept(plan(tmp_path, 2, **more), tmp_path / "out", "--resume") == together
    assert ran == []
    assert swept(plan(tmp_path, 2, **more), tmp_path / "at once") == together


def test_what_is_no_longer_asked_for_is_named_and_kept_apart_until_it_is(
    ran: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, both = tmp_path / "out", {"targets": ["coreml", "tflite"], "efforts": ["fast"]}
    whole = swept(plan(tmp_path, 2, **both), output)
    capfd.readouterr()
    fewer = {"targets": ["tflite"], "efforts": ["fast"]}
    ran.clear()
    less = swept(plan(tmp_path, 1, **fewer), output, "--resume")
    away = ["one-fast-int8-coreml", "two-fast-int8-coreml", "two-fast-int8-tflite"]
    assert f"no longer asked for, kept in {output}/set-aside/: {', '.join(away)}\n" in capfd.readouterr().err
    assert sorted(folder.name for folder in (output / "set-aside").iterdir()) == away
    assert [folder.name for folder in (output / "trials").iterdir()] == ["one-fast-int8-tflite"]
    assert swept(plan(tmp_path, 2, **both), output, "--resume") == whole
    assert list((output / "set-aside").iterdir()) == []
    assert ran == []
    assert swept(plan(tmp_path, 1, **fewer), tmp_path / "at once") == less


def test_a_folder_that_is_none_of_its_trials_stays(ran: list[str], tmp_path: Path) -> None:
    swept(plan(tmp_path, 1, targets=["coreml", "tflite"]), tmp_path / "out")
    (tmp_path / "out" / "trials" / "notes").mkdir()
    ran.clear()
    swept(plan(tmp_path, 1, targets=["tflite"]), tmp_path / "out", "--resume")
    assert {folder.name for folder in (tmp_path / "out" / "trials").iterdir()} == {"notes", "one-default-int8-tflite"}
    assert ran == []


@pytest.mark.parametrize(
    ("line", "network", "said"),
    [
        ("[options]\neval-images = 7\n", "one", "other eval_images unset, now 7: "),
        ("image-sizes = [64]\n[options]\nseed = 7\n", "one", "other seed 0, now 7: "),
        ("", "other weights", "other trial one-default-int8-tflite ("),
    ],
)
def test_what_would_change_results_is_refused_and_nothing_is_touched(
    ran: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], line: str, network: str, said: str
) -> None:
    path, output = plan(tmp_path, 1, targets=["tflite"]), tmp_path / "out"
    swept(path, output)
    before = {each: each.read_bytes() for each in output.rglob("*") if each.is_file()}
    path.write_text(path.read_text() + line)
    (tmp_path / "one.pth").write_text(network)
    ran.clear()
    assert main(["sweep", str(path), "--output", str(output), "--resume"]) == 2
    assert said in capfd.readouterr().err
    assert {each: each.read_bytes() for each in output.rglob("*") if each.is_file()} == before
    assert (output / JOURNAL) in before
    assert ran == []


def test_notices_of_trials_are_told_in_the_end(
    untimed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(_: object, trials: Sequence[Trial], *_given: object) -> Iterator[tuple[Trial, Exported]]:
        for trial in trials:
            yield trial, finish(trial, notices=["photo 1 is broken"] if trial.target == "tflite" else [])

    monkeypatch.setattr(run_sweep, "in_processes", run)
    swept(plan(tmp_path, 2, targets=["coreml", "tflite"], efforts=["fast"]), tmp_path / "out")
    assert capfd.readouterr().err.count("one-fast-int8-tflite, two-fast-int8-tflite: photo 1 is broken\n") == 1
