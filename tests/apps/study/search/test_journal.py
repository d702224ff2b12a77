"""A search's journal, cut off at every call, keeps every trial it said it had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from faults import Fault, at_every_call

from rexnet_export.apps.study.search.journal import JOURNAL, Journal, TrialResult
from rexnet_export.pipeline.core.errors import DataError, UsageError

SEARCH = {"seed": 0, "name": "two\nlines"}


def trial(index: int) -> TrialResult:
    return TrialResult(index=index, channels=(8, 16), parameters=10, macs=100, top1=(0.5, 0.25))


@pytest.mark.parametrize("fault", ["kill", "fail"])
def test_what_is_there_after_a_fault_at_every_call_can_be_gone_on_from(tmp_path: Path, fault: Fault) -> None:
    folder = tmp_path / "search"
    said = tmp_path / "said"

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        said.write_text("")

    def work() -> None:
        journal = Journal(folder, SEARCH)
        journal.begin()
        for index in range(3):
            journal.add(trial(index))
            with said.open("a") as stream:
                stream.write(".")

    def check() -> None:
        journal, least = Journal(folder, SEARCH), len(said.read_text())
        try:
            found = journal.resume()
        except DataError:
            assert least == 0
            journal.begin()
            found = ()
        assert found == tuple(trial(index) for index in range(len(found)))
        assert len(found) >= least
        journal.add(trial(9))
        assert journal.resume() == (*found, trial(9))

    assert at_every_call(prepare, work, check, folder, fault) > 6


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, '{"search": {}}\n[]\n', '{"search": []}\n', "[]\n", "\xff\n"]
)
def test_journals_that_are_none_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL).write_bytes((text if text.endswith("\n") else f"{text}\n").encode("latin-1"))
    with pytest.raises(DataError):
        Journal(tmp_path, SEARCH).resume()
    with pytest.raises(UsageError, match="already holds a search"):
        Journal(tmp_path, SEARCH).begin()
