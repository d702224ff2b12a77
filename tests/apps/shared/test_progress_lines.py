"""Lines of progress: none for what is done at once, one for what lasts, ever more seldom, and none with --quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from rexnet_export.apps.shared import progress_lines
from rexnet_export.apps.shared.progress_lines import ProgressLines
from rexnet_export.apps.shared.terminal import Terminal, run_command


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOADING_S", 0.05), ("FIRST_S", 0.1), ("LOOK_EVERY_S", 0.01)):
        monkeypatch.setattr(progress_lines, name, seconds)


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done() and time.monotonic() < end:
        time.sleep(0.01)


def test_what_lasts_is_spoken_of() -> None:
    said: list[str] = []
    with ProgressLines(said.append) as lines:
        until(lambda: bool(said))
        with lines.stage("calibrating", 1_000, "images") as bar:
            bar.advance(120, "photo.png")
            until(lambda: any("calibrating" in line for line in said))
        until(lambda: said[-1].startswith("after"))
    assert said[0].startswith("loading ... ")
    assert any(line.startswith("calibrating: 120 of 1,000 images, photo.png ... ") for line in said)
    assert said[-1].startswith("after calibrating ... ")


def test_a_stage_goes_on_when_one_inside_it_has_ended() -> None:
    said: list[str] = []
    with ProgressLines(said.append) as lines, lines.stage("choosing", 5, "steps") as bar:
        bar.advance()
        with lines.stage("calibrating", 3, "images"):
            until(lambda: any("calibrating" in line for line in said))
        until(lambda: said[-1].startswith("choosing"))
    assert said[-1].startswith("choosing: 1 of 5 steps ... ")


def test_what_is_done_at_once_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOADING_S", "FIRST_S"):
        monkeypatch.setattr(progress_lines, name, 60.0)
    said: list[str] = []
    with ProgressLines(said.append) as lines, lines.stage("reading", 1, "files") as bar:
        bar.advance()
        time.sleep(0.05)
    assert said == []


def test_lines_grow_seldom() -> None:
    moments: list[float] = []
    with ProgressLines(lambda _: moments.append(time.monotonic())) as lines, lines.stage("long", 1, "thing"):
        until(lambda: len(moments) == 4)
    gaps = [after - before for before, after in pairwise(moments)]
    assert all(gap > 0.15 * 2**number for number, gap in enumerate(gaps))  # a busy machine makes them longer alone


@pytest.mark.parametrize("quiet", [True, False])
def test_a_pipe_gets_lines_but_not_with_quiet(
    quiet: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []
    note = Terminal.note

    def heard(terminal: Terminal, text: str) -> None:
        note(terminal, text)
        said.append(text)

    def body(terminal: Terminal) -> int:
        with terminal.stage("converting", 2, "targets") as bar:
            bar.advance()
            if quiet:
                time.sleep(0.4)
            else:
                until(lambda: any("converting" in line for line in said))
        return 0

    monkeypatch.setattr(Terminal, "note", heard)

    assert run_command("test", body, quiet=quiet, debug=False) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert ("converting: 1 of 2 targets ... " in err) == (not quiet)
    if quiet:
        assert err == ""
