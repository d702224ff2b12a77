"""`rexnet-export sweep`: killed, resumed, on Ray or here, the tables are the same; what fails costs itself alone."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from re import sub

import pytest
from servers import free_port

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.sweep import run_sweep
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.trial import Exported, run_trial
from rexnet_export.apps.shared.trials.journal import JOURNAL
from rexnet_export.apps.shared.trials.outcome import Failed, attempted
from rexnet_export.apps.shared.trials.telling import TELL, Doing
from rexnet_export.pipeline.core.errors import DeviceError
from rexnet_export.pipeline.export.options import Options

TABLES = ("sweep.json", "sweep.csv")
pytestmark = pytest.mark.slow


def test_what_fails_says_why_and_the_rest_is_done(swept: Path) -> None:
    rows = list(csv.DictReader((swept / "sweep.csv").open(encoding="utf-8")))
    assert [(row["trial"], row["name"]) for row in rows] == [
        *(("small-fast-int8-ort", name) for name in ("ort", "ort x86", "ort vnni", "ort npu")),
        *(("small-fp32-ort", name) for name in ("ort", "ort x86")),
        ("broken-fp32-ort", ""),
    ]
    assert rows[-1]["exit_code"] == "10"
    assert "broken.pth" in rows[-1]["failure"]
    assert {row["images"] for row in rows[:-1]} == {"24"}
    sweep = json.loads((swept / "sweep.json").read_text(encoding="utf-8"))
    timings = json.loads((swept / "timings.json").read_text(encoding="utf-8"))
    made = [file for trial in sweep["trials"] for file in trial["files"]]
    assert set(timings["files"]) == {file["file"] for file in made}
    assert all(time["n"] == 100 for time in timings["files"].values())
    assert all((swept / file["file"]).is_file() for file in made)
    report = json.loads((swept / "trials" / "small-fp32-ort" / "report.json").read_text(encoding="utf-8"))
    assert "side by side" in report["targets"]["ort"]["latency"]["not_measured"]


def test_a_trial_is_what_an_export_of_its_own_gives(plan: Path, swept: Path, tmp_path: Path) -> None:
    few = ("--effort", "fast", "--calibration-images", "8", "--eval-images", "24", "--int8")
    checkpoint = str(plan.parent / "small.safetensors")
    flags = ["--checkpoint", checkpoint, "--target", "ort", *few, "--quiet"]
    assert main([*flags, "--output", str(tmp_path)]) == 0
    trial = swept / "trials" / "small-fast-int8-ort"
    for path in (*tmp_path.glob("*.ort"), *tmp_path.glob("*.onnx"), tmp_path / "qparams.json"):
        assert path.read_bytes() == (trial / path.name).read_bytes()
    assert not (swept / ".shared-work").exists()


def test_a_trial_tells_what_it_does(plan: Path, tmp_path: Path) -> None:
    checkpoint = str(plan.parent / "small.safetensors")
    few = Options(checkpoint=checkpoint, target=("ort",), effort="fast", calibration_images=8, eval_images=24)
    told: list[Doing] = []
    before = TELL.set(told.append)
    run_trial(Trial(name="a", options=replace(few, output=tmp_path / "a")))
    TELL.reset(before)
    assert [sub(r"\d+", "some", doing.stage) for doing in told] == [
        *("checking images", "checking images", "trying other preprocessing", "making the float graph"),
        *("calibrating", "calibrating"),
        *("comparing the rewritten graph with torch", "converting", "reading files back"),
        # With VNNI one network more is none that is emulated.
        *("running some networks", "running emulated files and the graphs between"),
        *("comparing tensors", "writing the records"),
    ]


def test_the_page_shows_every_file_and_what_failed(swept: Path) -> None:
    page = (swept / "sweep.html").read_text(encoding="utf-8")
    assert page.count("small-fast-int8-ort") >= 3
    assert "broken.pth" in page
    assert "ort x86, top-1 and ms of one image" in page
    assert "<script" not in page


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLES]


class Killed(Exception):
    pass


def here(ran: list[str], die_after: int, how: Exception = Killed()) -> object:  # noqa: B008 - a value
    """Trials in this process, which dies like a killed one."""

    def run(run: object, trials: Sequence[Trial], *_: object) -> Iterator[tuple[Trial, Exported | Failed]]:
        for done, trial in enumerate(trials):
            if done == die_after:
                raise how
            ran.append(trial.name)
            yield trial, attempted(run, trial)  # type: ignore[arg-type]

    return run


@pytest.mark.usefixtures("untimed")
def test_a_killed_sweep_goes_on_to_the_same_tables(
    plan: Path,
    swept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sweep = ["sweep", str(plan), "--output", str(tmp_path), "--quiet"]
    ran: list[str] = []
    monkeypatch.setattr(run_sweep, "in_processes", here(ran, die_after=2))
    assert main(sweep) == 70
    journal = tmp_path / JOURNAL
    journal.write_text(journal.read_text(encoding="utf-8")[:-20], encoding="utf-8")  # the kill cut the last line
    monkeypatch.setattr(run_sweep, "in_processes", here(ran, die_after=9))
    capfd.readouterr()
    assert main([*sweep, "--resume"]) == 10
    assert "1 of 3 trials failed, the first of them broken-fp32-ort: " in capfd.readouterr().err
    assert ran == ["small-fast-int8-ort", "small-fp32-ort", "small-fp32-ort", "broken-fp32-ort"]
    assert tables(tmp_path) == tables(swept)
    ran.clear()
    shutil.rmtree(tmp_path / "trials" / "small-fp32-ort")
    assert main([*sweep, "--resume"]) == 10
    assert ran == ["small-fp32-ort", "broken-fp32-ort"]  # what failed is tried again, too


@pytest.mark.usefixtures("untimed", "local_ray")
def test_ray_gives_the_same_tables(plan: Path, swept: Path, tmp_path: Path) -> None:
    assert main(["sweep", str(plan), "--output", str(tmp_path), "--quiet", "--ray", "local"]) == 10
    assert tables(tmp_path) == tables(swept)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--ray", f"127.0.0.1:{free_port()}"), 5, "not reachable"),
        (("--ray", "nonsense"), 5, "give host:port"),
        (("--jobs", "0"), 2, "--jobs 0"),
        (("--jobs", "2", "--ray", "local"), 2, "leave out --ray"),
        (("--resume",), 11, "start without --resume"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    plan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], code: int, said: str
) -> None:
    assert main(["sweep", str(plan), *flags, "--output", str(tmp_path / "out")]) == code
    error = capfd.readouterr().err
    assert said in error
    assert error.startswith("rexnet-export sweep: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('checkpoints = ["nowhere.pth"]', 10, "nowhere.pth does not exist; nothing of the sweep was begun"),
        ("targets = []", 2, "is no list with anything in it"),
        ('targets = ["ort"]\n[[exclude]]\ntarget = "ort"', 2, "all 1 combinations are excluded"),
    ],
)
def test_a_file_that_comes_to_nothing_is_one_line_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, code: int, said: str
) -> None:
    (tmp_path / "sweep.toml").write_text(text, encoding="utf-8")
    assert main(["sweep", str(tmp_path / "sweep.toml"), "--output", str(tmp_path / "out")]) == code
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_was_done_before_workers_were_of_no_use_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan, output = tmp_path / "sweep.toml", tmp_path / "out"
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    plan.write_text(f'checkpoints = ["{tmp_path}/broken.pth"]\nprecisions = ["fp32"]\ntargets = ["ort", "gpu"]')
    monkeypatch.setattr(run_sweep, "in_processes", here([], die_after=1, how=DeviceError("a worker has no timm")))
    assert main(["sweep", str(plan), "--output", str(output), "--quiet"]) == 5
    assert capfd.readouterr().err.count("\n") == 1
    assert '"trial": "broken-fp32-ort"' in (output / JOURNAL).read_text(encoding="utf-8").splitlines()[-1]


def test_another_sweep_or_a_second_start_changes_nothing(
    plan: Path, swept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (swept / JOURNAL).read_bytes()
    assert main(["sweep", str(plan), "--output", str(swept)]) == 2
    other = tmp_path / "other.toml"
    other.write_text(plan.read_text(encoding="utf-8").replace("eval-images = 24", "eval-images = 25"))
    assert main(["sweep", str(other), "--output", str(swept), "--resume"]) == 2
    error = capfd.readouterr().err
    assert "already holds a sweep" in error
    assert "with other eval_images 24, now 25:" in error
    assert (swept / JOURNAL).read_bytes() == before
