"""Whom an output folder is open to: whom any new folder is, or whom it was open to before."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from manifests import vouch

from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.export import publish as module
from rexnet_export.pipeline.export.publish import publish, staging


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "out"


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The process's while the test runs."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture(params=["exchanged", "moved in"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if request.param == "moved in":
        monkeypatch.setattr(module, "_exchange", unsupported)


def export(output: Path) -> None:
    with staging(output, Silent()) as folder:
        (folder / "m.mlpackage").mkdir()
        (folder / "m.mlpackage" / "weight.bin").write_text("weights")
        vouch(folder, version="any")
        assert mode(folder) == "700", "nobody else reads what is unfinished"
        publish(folder, output, Silent())


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, "755"), (0o077, "700")], indirect=["umask"])
def test_a_new_output_folder_is_open_to_whom_any_folder_is(output: Path, expected: str) -> None:
    for _ in ("new", "again"):
        export(output)
        assert {mode(path) for path in (output, output.parent, output / "m.mlpackage")} == {expected}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("umask", [0o022, 0o077], indirect=True)
@pytest.mark.parametrize("chosen", ["700", "770", "711"])
def test_an_output_folder_keeps_the_mode_that_was_chosen_for_it(output: Path, chosen: str) -> None:
    output.mkdir(parents=True)
    output.chmod(int(chosen, 8))
    export(output)
    assert mode(output) == chosen
