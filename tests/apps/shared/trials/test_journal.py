"""A journal, cut off at every call, keeps every trial it said it had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from faults import Fault, at_every_call

from rexnet_export.apps.shared.trials.journal import JOURNAL, Journal
from rexnet_export.pipeline.core.errors import DataError, UsageError

SEARCH = {"seed": 0, "name": "two\nlines"}


def journal_of(folder: Path, asked: object = SEARCH, **trials: object) -> Journal[int]:
    kind, write = "search", lambda index: {"index": index, "pad": "ü"}
    return Journal(folder, kind, asked, lambda line: line["index"], write, trials=trials)


@pytest.mark.parametrize("fault", ["kill", "fail"])
def test_what_is_there_after_a_fault_at_every_call_can_be_gone_on_from(tmp_path: Path, fault: Fault) -> None:
    folder = tmp_path / "search"
    said = folder / "said"

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def work() -> None:
        journal = journal_of(folder)
        journal.begin()
        for index in range(3):
            journal.add(index)
            with said.open("a") as stream:
                stream.write(".")

    def check() -> None:
        journal, least = journal_of(folder), len(said.read_text()) if said.exists() else 0
        try:
            found = journal.resume().results
        except DataError:
            assert least == 0
            journal.begin()
            found = ()
        assert found == tuple(range(len(found)))
        assert len(found) >= least
        journal.add(9)
        assert journal.resume().results == (*found, 9)

    assert at_every_call(prepare, work, check, folder, fault) > 6


@pytest.mark.parametrize("fault", ["kill", "fail"])
def test_more_trials_may_be_asked_for_and_a_fault_at_any_call_loses_none(tmp_path: Path, fault: Fault) -> None:
    folder = tmp_path / "search"

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        journal = journal_of(folder, a=1, b=[2, 3])
        journal.begin()
        journal.add(0)

    def work() -> None:
        journal = journal_of(folder, b=(2, 3), c=4)
        journal.resume()
        journal.add(1)

    def check() -> None:
        kept = journal_of(folder, c=4, d=5).resume()
        assert kept.results in {(0,), (0, 1)}
        assert {"a", "b"} <= kept.trials <= {"a", "b", "c"}
        assert journal_of(folder).resume().trials == {*kept.trials, "c", "d"}

    assert at_every_call(prepare, work, check, folder, fault) > 2


@pytest.mark.parametrize(
    ("asked", "trials", "said"),
    [
        (SEARCH, {"a": 2}, "other trial a 1, now 2:"),
        (SEARCH, {"c": 3}, "other trial c 2, now 3:"),  # which came with the second line
        ({**SEARCH, "seed": 1}, {"a": 1}, "other seed 0, now 1:"),
        ({"seed": 0}, {"a": 1, "d": 4}, "other name .*, now unset:"),
    ],
)
def test_what_is_known_must_be_what_it_was(tmp_path: Path, asked: object, trials: dict[str, int], said: str) -> None:
    journal_of(tmp_path, a=1).begin()
    journal_of(tmp_path, c=2).resume()
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(UsageError, match=said):
        journal_of(tmp_path, asked, **trials).resume()
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_of_a_trial_the_options_are_named_that_differ(tmp_path: Path) -> None:
    journal_of(tmp_path, a={"effort": "fast", "image_size": 64, "file": None}).begin()
    with pytest.raises(UsageError, match=r"other trial a \(file unset, now \"x\", image_size 64, now 96\):"):
        journal_of(tmp_path, a={"effort": "fast", "image_size": 96, "file": "x"}).resume()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "1" * 5000,
        '{"search": {}}\n[]\n',
        '{"search": []}\n',
        "[]\n",
        "\xff\n",
        '{"search": {}, "trials": 1}\n',
    ],
)
def test_journals_that_are_none_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL).write_bytes((text if text.endswith("\n") else f"{text}\n").encode("latin-1"))
    with pytest.raises(DataError):
        journal_of(tmp_path).resume()
    with pytest.raises(UsageError, match="already holds a search"):
        journal_of(tmp_path).begin()
