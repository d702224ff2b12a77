"""`rexnet-study search`: one machine and a real local Ray agree; a killed search goes on; bad input is one line."""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from servers import free_port

from rexnet_export.apps.shared.trials.journal import JOURNAL
from rexnet_export.apps.study.command import main
from rexnet_export.apps.study.search import command as study_search
from rexnet_export.apps.study.search import run_search
from rexnet_export.apps.study.search.journal import TrialResult
from rexnet_export.apps.study.search.search import Trial, run_trial

DOCS = Path(__file__).parents[4] / "docs"
TINY = (
    *("search", "--blocks", "3", "--parameters", "16000", "--macs", "800000", "--image-size", "8"),
    *("--configurations", "3", "--images", "32", "--eval-images", "32", "--epochs", "1", "--batch", "16", "--quiet"),
)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("local")
    assert main([*TINY, "--jobs", "1", "--output", str(output)]) == 0
    return output


def test_results_and_page(local: Path) -> None:
    rows = list(csv.DictReader((local / "results.csv").open(encoding="utf-8")))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert {row["configuration"] for row in rows} == {"0", "1", "2"}
    tops = [float(row["top1"]) for row in rows]
    assert tops == sorted(tops, reverse=True)
    text = (local / "search.md").read_text(encoding="utf-8")
    assert "too few configurations to say" in text
    assert all(row["channels"] in text for row in rows)


def test_published_page_is_what_the_published_table_gives() -> None:
    text = (DOCS / "channel-search.csv").read_text(encoding="utf-8")
    results = [
        TrialResult(
            index=int(row["configuration"]),
            channels=tuple(map(int, row["channels"].split("-"))),
            parameters=int(row["parameters"]),
            macs=int(row["macs"]),
            top1=(float(row["top1"]),) * int(row["repeats"]),
        )
        for row in csv.DictReader(text.splitlines())
    ]
    flags = argparse.ArgumentParser()
    study_search.add_options(flags)
    options = flags.parse_args([])
    options.settle(options)
    assert run_search.table(results) == text
    page = run_search.document(run_search.chosen(options), results)
    assert page == (DOCS / "channel-search.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_ray_gives_the_same_table(local: Path, tmp_path: Path) -> None:
    assert main([*TINY, "--ray", "local", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "results.csv").read_bytes() == (local / "results.csv").read_bytes()


class Killed(Exception):
    pass


def here(counted: list[int], *, die_after: int | None = None) -> object:
    """An executor in this process that notes what it runs, and dies like a killed process."""

    def on_this_machine(_: int | None = None) -> object:
        def execute(trials: Sequence[Trial]) -> Generator[TrialResult]:
            for done, trial in enumerate(trials):
                if done == die_after:
                    raise Killed
                counted.append(trial.index)
                yield run_trial(trial)

        return execute

    return on_this_machine


def test_killed_search_goes_on(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    monkeypatch.setattr(run_search, "on_this_machine", here(ran, die_after=2))
    assert main([*TINY, "--output", str(tmp_path)]) != 0
    assert ran == [0, 1]
    journal = tmp_path / JOURNAL
    journal.write_text(journal.read_text(encoding="utf-8")[:-20], encoding="utf-8")  # the kill cut the last line
    ran.clear()
    monkeypatch.setattr(run_search, "on_this_machine", here(ran))
    assert main([*TINY, "--output", str(tmp_path), "--resume"]) == 0
    assert ran == [1, 2]
    assert (tmp_path / "results.csv").read_bytes() == (local / "results.csv").read_bytes()


def running(mark: str) -> list[str]:
    """Processes in whose environment the mark stands."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # not ours, or gone
            found += [environment.parent.name] if mark.encode() in environment.read_bytes() else []
    return found


@pytest.mark.slow
def test_workers_end_with_a_killed_search(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "rexnet_export.apps.study.command",
        *TINY,
        "--jobs",
        "1",
        "--output",
        str(tmp_path),
    ]
    mark = f"KILLED_SEARCH={tmp_path}"
    deadline = time.monotonic() + 600
    with subprocess.Popen(command, env={**os.environ, "KILLED_SEARCH": str(tmp_path)}) as search:
        while not (tmp_path / JOURNAL).is_file() or len((tmp_path / JOURNAL).read_text("utf-8").splitlines()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(running(mark)) > 1
        search.kill()
    deadline = time.monotonic() + 20
    while (left := running(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        os.kill(int(process), signal.SIGKILL)
    assert not left


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--epochs", "2"), "other epochs 1, now 2; warmup_epochs 0.5, now 1.0: ", id="recipe"),
        pytest.param(("--macs", "700000"), "other space macs", id="limit"),
        pytest.param(("--images", "33"), "other training images", id="images"),
        pytest.param(("--repeats", "2"), "other repeats", id="repeats"),
    ],
)
def test_resume_with_other_options_is_refused(
    local: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    before = (local / JOURNAL).read_bytes()
    assert main([*TINY, *arguments, "--output", str(local), "--resume"]) == 2
    assert said in capfd.readouterr().err
    assert (local / JOURNAL).read_bytes() == before


def test_finished_search_is_left_alone(local: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (local / JOURNAL).read_bytes()
    assert main([*TINY, "--output", str(local)]) == 2
    assert "use --resume or another --output" in capfd.readouterr().err
    assert (local / JOURNAL).read_bytes() == before


@pytest.mark.parametrize("content", ["", "{}\n", "no json\n", '{"search": {}}\n{"index": 1}\n'])
def test_damaged_journal(tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / JOURNAL).write_text(content, encoding="utf-8")
    assert main([*TINY, "--output", str(tmp_path), "--resume"]) == 11
    assert "damaged" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(("--ray", f"127.0.0.1:{free_port()}"), 5, "not reachable", id="no ray"),
        pytest.param(("--ray", ""), 5, "give host:port", id="empty address"),
        pytest.param(("--ray", "nonsense"), 5, "give host:port", id="no address"),
        pytest.param(("--ray", "host:99999"), 5, "give host:port", id="no port"),
        pytest.param(("--parameters", "100"), 2, "no configuration is so small", id="budget"),
        pytest.param(("--data", "x"), 2, "--data and --eval-data go together", id="half the data"),
        pytest.param(("--data", "/nowhere", "--eval-data", "/nowhere"), 11, "/nowhere does not exist", id="no data"),
        pytest.param(("--batch", "64"), 2, "fewer than one batch of 64", id="batch"),
        pytest.param(("--jobs", "0"), 2, "--jobs 0", id="jobs"),
        pytest.param(("--jobs", "1", "--ray", "local"), 2, "leave out --ray", id="both"),
        pytest.param(("--configurations", "0"), 2, "--configurations 0", id="none"),
        pytest.param(("--repeats", "0"), 2, "--repeats 0", id="repeats"),
        pytest.param(("--resume",), 11, "start without --resume", id="nothing to resume"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert main([*TINY, *arguments, "--output", str(tmp_path / "out")]) == code
    error = capfd.readouterr().err
    assert said in error
    assert error.startswith("rexnet-study search: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_journal_names_no_machine(local: Path) -> None:
    header, *trials = [json.loads(line) for line in (local / JOURNAL).read_text(encoding="utf-8").splitlines()]
    assert not {"jobs", "ray", "output"} & header["search"].keys()
    assert sorted(trial["index"] for trial in trials) == [0, 1, 2]
