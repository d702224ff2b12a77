"""What reaches a person: text as it is, one true line for a failure, and no folder of a dead command."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

from rexnet_export.apps.shared.terminal import Terminal, run_command
from rexnet_export.pipeline.core.errors import GateFailed

SHOW_CURSOR = "\x1b[?25h"
CANARY = "\x1b[31mowl\x07\x9b8m\u202e##[error]no"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_nothing_from_outside_commands_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def body(terminal: Terminal) -> int:
        table = Table(CANARY, title=CANARY)
        table.add_row(CANARY)
        table.add_row("::error::x")
        terminal.out.print(table)
        terminal.out.print(CANARY, soft_wrap=True)
        terminal.json({"a": CANARY})
        terminal.note(f"{CANARY}\n::error::x")
        raise GateFailed(f"{CANARY}\n::error::x")

    assert run_command("test", body, quiet=False, debug=True) == 1
    out, err = capfd.readouterr()
    for text in (out, err):
        assert all(sign.isprintable() or sign == "\n" for sign in text)
        assert "##[" not in text
        assert "owl" in text
        assert not any(line.lstrip().startswith("::") for line in text.split("\n"))


def test_what_is_no_moment_is_refused_before_the_work(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that reads the variable by itself would fail first, over something that it does not name."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert run_command("test", pytest.fail, quiet=False, debug=False) == 2
    line = "test: SOURCE_DATE_EPOCH 'yesterday' is no number of seconds since 1970; set one, or unset it\n"
    assert capfd.readouterr() == ("", line)


@pytest.mark.parametrize("text", ["runs:x:/net:smile:.pth", "[bold]x[/bold]", "[link=http://x]y[/link]", r"a\[b]"])
def test_text_is_shown_as_it_is(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    def body(terminal: Terminal) -> int:
        table = Table(text)
        table.add_row(text)
        terminal.out.print(table)
        terminal.out.print(text)
        terminal.note(text)
        return 0

    assert run_command("test", body, quiet=False, debug=False) == 0
    out, err = capfd.readouterr()
    assert out.count(text) == 3
    assert err == f"{text}\n"


def test_a_folder_that_is_gone_is_said(tmp_path: Path, temporary: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = Path.cwd()
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        assert run_command("test", lambda _: len(str(Path("x").absolute())), quiet=False, debug=False) == 2
    finally:
        os.chdir(before)
    assert "the folder this runs in is gone; change to one that exists" in capfd.readouterr().err


def test_an_unexpected_error_has_a_code_of_its_own(capfd: pytest.CaptureFixture[str], temporary: Path) -> None:
    def body(_: Terminal) -> int:
        os.write(1, b"a toolchain's words\n")
        raise ZeroDivisionError("by nothing")

    assert run_command("test", body, quiet=False, debug=False) == 70
    line = capfd.readouterr().err
    assert "unexpected ZeroDivisionError('by nothing')" in line
    log = Path(line.partition("toolchain output: ")[2].strip().rstrip(")"))
    assert log.read_text() == "a toolchain's words\n"
    assert run_command("test", lambda _: 0, quiet=False, debug=False) == 0
    assert log.exists(), "it is of a command that failed, not of one that was killed"
    os.utime(log.parent, (time.time() - 8 * 24 * 3600,) * 2)
    assert run_command("test", lambda _: 0, quiet=False, debug=False) == 0
    assert not list(temporary.iterdir())


def script(body: str) -> list[str]:
    """A command whose body is this, with `terminal`."""
    head = "import os, sys, time, signal, tempfile\nfrom pathlib import Path\n"
    head += "from rexnet_export.apps.shared.terminal import run_command\n\ndef body(terminal):\n"
    tail = '\n    return 0\n\nsys.exit(run_command("test", body, quiet=False, debug=False))\n'
    return [sys.executable, "-P", "-c", head + textwrap.indent(body, "    ") + tail]


def test_what_a_killed_command_left_is_swept_at_the_next_start(temporary: Path) -> None:
    words = "tempfile.mkdtemp(); os.write(1, bytes(2**20)); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run(script(words), check=False).returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    (temporary / "rexnet-run-of-somebody.txt").touch()
    assert run_command("test", lambda _: 0, quiet=False, debug=False) == 0
    assert not left.exists()


def test_what_a_living_command_has_stays(temporary: Path) -> None:
    process = subprocess.Popen(script("print(1, file=terminal.out.file, flush=True); time.sleep(60)"), stdout=-1)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        (folder,) = temporary.iterdir()
        assert run_command("test", lambda _: 0, quiet=False, debug=False) == 0
        assert folder.exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_unwind_once_and_further_ones_wait(number: signal.Signals, temporary: Path) -> None:
    words = f"""
    try:
        signal.raise_signal({int(number)})
    finally:
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(other)
        print("cleaned", file=terminal.out.file, flush=True)
    """
    done = subprocess.run(script(textwrap.dedent(words)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "cleaned\n")
    assert done.stderr == "test: interrupted\n"
    assert not list(temporary.iterdir())


def test_a_later_signal_ends_what_hangs(temporary: Path) -> None:
    words = """
    from rexnet_export.apps.shared import terminal as module
    clock = [0.0]
    module.time.monotonic = lambda: clock[0]
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        clock[0] = 9.9
        signal.raise_signal(signal.SIGINT)
        print("still tidying", file=terminal.out.file, flush=True)
        clock[0] = 10.0
        signal.raise_signal(signal.SIGINT)
        print("tidied", file=terminal.out.file, flush=True)
    """
    done = subprocess.run(script(textwrap.dedent(words)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "still tidying\n")
    assert done.stderr == "ended at once; the next run tidies up\n"
    assert list(temporary.iterdir())
    assert run_command("test", lambda _: 0, quiet=False, debug=False) == 0
    assert not list(temporary.iterdir())


PRINTS = 'terminal.out.print("x" * 100_000, soft_wrap=True)'


def test_a_full_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(script(PRINTS), stdout=full, stderr=-1, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr
        == "test: standard output cannot be written (No space left on device); what was to be printed is lost\n"
    )


@pytest.mark.parametrize("words", [PRINTS, 'terminal.json({"a": "x" * 100_000})'])
def test_a_reader_that_leaves_is_one_line(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(script(words), stdout=writer, stderr=-1, text=True, check=False)
    os.close(writer)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "Broken pipe" in done.stderr


def test_closed_streams_do_no_harm() -> None:
    for closing, code in (("1>&-", 2), ("2>&-", 0), ("2>/dev/full", 0), ("1>&- 2>&-", 2)):
        command = ["sh", "-c", f'"$@" {closing}', "sh", *script(PRINTS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, closing
        assert "Traceback" not in done.stderr


def test_a_missing_folder_for_temporary_files_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path / "nowhere")}
    done = subprocess.run(script("pass"), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 2}, "Python falls back to /tmp where it can"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("use", [lambda t: t.out.print("x"), lambda t: t.note("x"), lambda t: t.fail("x")])
def test_a_terminal_shows_at_once_that_something_is_loaded_until_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Terminal], None]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    terminal = Terminal("test", screen, screen, quiet=False, log=tmp_path / "log")
    with terminal.open():
        use(terminal)
        before, _, after = screen.getvalue().rpartition(SHOW_CURSOR)
        assert "loading" in before
        assert "loading" not in after, "it is gone before anything is said"
        assert "x" in after
        with terminal.stage("calibrating", 2, "images"):
            pass
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count(SHOW_CURSOR), "no cursor is left hidden"


def test_what_toolchains_print_while_something_moves_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor what they print later on a stream that they took while they were imported."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    terminal = Terminal("test", screen, screen, quiet=False, log=tmp_path / "log")
    with terminal.open():
        taken = sys.stderr
        sys.stdout.write("one\n")
        with terminal.stage("calibrating", 2, "images"):
            sys.stderr.write("two\n")
    taken.write("three\n")
    assert not {"one", "two", "three"} & set(screen.getvalue().split())
    assert capsys.readouterr() == ("one\n", "two\nthree\n")


def test_a_quiet_terminal_shows_nothing(tmp_path: Path) -> None:
    screen = Screen()
    with Terminal("test", screen, screen, quiet=True, log=tmp_path / "log").open():
        pass
    assert screen.getvalue() == ""
