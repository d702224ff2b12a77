"""A result's folder appears whole or not at all, whoever else wants the same place."""

import errno
import os
from pathlib import Path

import pytest

from rexnet_export.apps.bench.result.result import finish, whole_folder
from rexnet_export.pipeline.core.errors import UsageError


def written(output: Path, texts: dict[str, str]) -> None:
    with whole_folder(output) as partial:
        for name, text in texts.items():
            (partial / name).write_text(text)


def test_two_runs_at_once_end_with_one_whole_result_and_one_refusal(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    with pytest.raises(UsageError, match="out exists; name a new folder"), whole_folder(output):
        written(output, {"mine": "faster", "more": "faster"})
    assert {path.name: path.read_text() for path in output.iterdir()} == {"mine": "faster", "more": "faster"}
    assert list(output.parent.iterdir()) == [output]


def test_a_file_in_its_place_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(UsageError, match="out exists; name a new folder"), whole_folder(output):
        output.write_text("somebody else's")
    assert output.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [output]


def test_what_fails_elsewhere_is_not_said_to_be_the_output(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), whole_folder(tmp_path / "out"):
        raise ConnectionResetError(errno.ECONNRESET, "a device's trouble")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/out cannot be written .*; make room or name"):
        written(tmp_path / "file" / "out", {})
    with pytest.raises(UsageError, match=r"cannot be written \(File name too long\)"):
        written(tmp_path / ("long" * 100), {})
    with pytest.raises(UsageError, match=r"none cannot be written \(No such file or directory\)"):
        finish(tmp_path / "none", {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_others_may_read_a_result_as_they_may_any_new_folder(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_folder(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
