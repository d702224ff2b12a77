"""What a person sees while a command runs: progress bars, one closing table, one line for a failure.

Toolchains write to the process's output whenever they like. While a command runs, both standard streams lead to a
log file instead, and only what is said through `Terminal` reaches the person.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from rexnet_export.pipeline.core.errors import ExportError
from rexnet_export.pipeline.core.progress import Bar

UNEXPECTED, INTERRUPTED = 1, 130


class Terminal:
    """The person's own streams: `out` for results, `messages` for progress and failures."""

    def __init__(self, program: str, out: TextIO, messages: TextIO, *, quiet: bool, log: Path) -> None:
        self.out = Console(file=out, highlight=False)
        self.messages = Console(file=messages, highlight=False)
        self._program = program
        self._quiet = quiet
        self._log = log
        self.stopped = False

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Bar]:
        """Show a bar while the context is open, where there is a terminal to show it on."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _SpeedColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        hidden = self._quiet or not self.messages.is_terminal
        with RichProgress(*columns, console=self.messages, transient=True, disable=hidden) as progress:
            yield _RichBar(self, progress, title, total, unit)

    def go_on(self) -> None:
        """Raise `KeyboardInterrupt` if the person asked to stop."""
        if self.stopped:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        """Say one line that stays."""
        if not self._quiet:
            self.messages.print(text, markup=False, soft_wrap=True)

    def fail(self, text: str) -> None:
        """Say why the command stops, and where the toolchains' own words are; on one line, whatever is in the text."""
        said = f"{self._program}: {' '.join(text.splitlines())}"
        if self._log.stat().st_size:
            said += f" (toolchain output: {self._log})"
        self.messages.print(said, style="red", markup=False, soft_wrap=True)


class _SpeedColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Blank until the first units are done."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


class _RichBar:
    def __init__(self, terminal: Terminal, progress: RichProgress, title: str, total: int, unit: str) -> None:
        terminal.go_on()
        self._terminal = terminal
        self._progress = progress
        self._task = progress.add_task(title, total=total, unit=unit, note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        self._terminal.go_on()
        self._progress.advance(self._task, count)
        if note:
            self._progress.update(self._task, note=note)


def run_parsed(
    program: str,
    parser: Callable[[], argparse.ArgumentParser],
    argv: Sequence[str] | None,
    command: Callable[[argparse.Namespace, Terminal], int | None],
) -> int:
    """Parse the arguments, which include `--quiet` and `--debug`, and run `command`; its result, or 0, is the exit
    code."""
    try:
        arguments = parser().parse_args(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    return run_command(
        program, lambda terminal: command(arguments, terminal) or 0, quiet=arguments.quiet, debug=arguments.debug
    )


def run_command(
    program: str,
    body: Callable[[Terminal], int],
    *,
    quiet: bool,
    debug: bool,
    interrupted: str = "nothing was left behind",
) -> int:
    """Run `body` with toolchain chatter kept in a log file; failures become one line and their exit code.

    The log is deleted when all went well, or when it is empty.
    """
    handle, name = tempfile.mkstemp(prefix=f"{program}-", suffix=".log")
    log, code = Path(name), UNEXPECTED
    try:
        with _redirected(handle) as (out, messages):
            terminal = Terminal(program, out, messages, quiet=quiet, log=log)
            with _stoppable(terminal):
                code = _guarded(terminal, body, debug=debug, interrupted=interrupted)
    finally:
        if code == 0 or not log.stat().st_size:
            log.unlink()
    return code


@contextmanager
def _stoppable(terminal: Terminal) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM unwind the run; what a toolchain swallows is raised again at the next progress.

    A process that was started with either ignored goes on ignoring it.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        terminal.stopped = True
        raise KeyboardInterrupt

    wanted = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _guarded(terminal: Terminal, body: Callable[[Terminal], int], *, debug: bool, interrupted: str) -> int:
    """The one place where failures end."""
    try:
        return body(terminal)
    except KeyboardInterrupt:
        terminal.fail(f"interrupted; {interrupted}")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - nothing may reach the person as a traceback
        if debug:
            terminal.messages.print(traceback.format_exc(), markup=False)
        if terminal.stopped:  # a toolchain that is interrupted may raise an error of its own instead
            terminal.fail(f"interrupted; {interrupted}")
            return INTERRUPTED
        if isinstance(error, ExportError):
            terminal.fail(str(error))
            return error.exit_code
        terminal.fail(f"unexpected {error!r}; run again with --debug and report it")
        return UNEXPECTED


@contextmanager
def _redirected(sink: int) -> Iterator[tuple[TextIO, TextIO]]:
    """Lead file descriptors 1 and 2 into `sink`; yield streams that still reach where they led before."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    streams = os.fdopen(os.dup(saved[0]), "w", encoding="utf-8"), os.fdopen(os.dup(saved[1]), "w", encoding="utf-8")
    try:
        yield streams
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, stream in zip((1, 2), streams, strict=True):
            with suppress(BrokenPipeError):  # whoever read the output has left
                stream.close()
            os.dup2(saved[descriptor - 1], descriptor)
            os.close(saved[descriptor - 1])
