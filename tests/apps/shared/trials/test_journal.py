"""A journal, cut off at every call, keeps every trial it said it had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from faults import Fault, at_every_call

from rexnet_export.apps.shared.trials.journal import JOURNAL, Journal
from rexnet_export.pipeline.core.errors import DataError, UsageError

SEARCH = {"seed": 0, "name": "two\nlines"}


def journal_of(folder: Path) -> Journal[int]:
    return Journal(folder, "search", SEARCH, lambda line: line["index"], lambda index: {"index": index, "pad": "ü"})


@pytest.mark.parametrize("fault", ["kill", "fail"])
def test_what_is_there_after_a_fault_at_every_call_can_be_gone_on_from(tmp_path: Path, fault: Fault) -> None:
    folder = tmp_path / "search"
    said = tmp_path / "said"

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        said.write_text("")

    def work() -> None:
        journal = journal_of(folder)
        journal.begin()
        for index in range(3):
            journal.add(index)
            with said.open("a") as stream:
                stream.write(".")

    def check() -> None:
        journal, least = journal_of(folder), len(said.read_text())
        try:
            found = journal.resume()
        except DataError:
            assert least == 0
            journal.begin()
            found = ()
        assert found == tuple(range(len(found)))
        assert len(found) >= least
        journal.add(9)
        assert journal.resume() == (*found, 9)

    assert at_every_call(prepare, work, check, folder, fault) > 6


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, '{"search": {}}\n[]\n', '{"search": []}\n', "[]\n", "\xff\n"]
)
def test_journals_that_are_none_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL).write_bytes((text if text.endswith("\n") else f"{text}\n").encode("latin-1"))
    with pytest.raises(DataError):
        journal_of(tmp_path).resume()
    with pytest.raises(UsageError, match="already holds a search"):
        journal_of(tmp_path).begin()
