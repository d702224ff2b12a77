"""What a person sees while a command runs: progress bars, one closing table, one line for a failure.

Toolchains write to the process's output whenever they like. While a command runs, both standard streams lead to a
log file instead, and only what is said through `Terminal` reaches the person: as it is, but for signs that would
command a terminal, or GitHub's runner.
"""

from __future__ import annotations

import io
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
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
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from rexnet_export.apps.shared.progress_lines import ProgressLines
from rexnet_export.apps.shared.text import rate
from rexnet_export.apps.shared.work_folder import work_folder
from rexnet_export.pipeline.core.errors import ExportError, UsageError
from rexnet_export.pipeline.core.extras import unavailable
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.progress import Bar
from rexnet_export.pipeline.core.reproducible import source_date
from rexnet_export.pipeline.core.text import harmless, printable

UNEXPECTED, INTERRUPTED = 70, 130
PATIENCE_S = 10.0
# Else Rich shows what toolchains print meanwhile, and all that is written on a stream that they took then.
OWN_STREAMS: Mapping[str, Any] = {"redirect_stdout": False, "redirect_stderr": False}
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class PlainConsole(Console):
    """Shows text as it is: nothing in it is markup, a picture or a command, and no word is broken or cut."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file=file, highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **settings: Any) -> None:  # noqa: ANN401 - whatever Rich shows
        """The same; a name that is longer than a line is left to the terminal, from which it can be copied whole."""
        super().print(*objects, **{"crop": False, **settings})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The same, made harmless."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


class StandardOutput(io.TextIOWrapper):
    """Where results go; that they cannot is a failure of the command like any other."""

    def write(self, text: str) -> int:
        """Write, or say why that cannot be done."""
        with _written():
            return super().write(text)

    def flush(self) -> None:
        """Have everything written, or say why that cannot be done."""
        with _written():
            super().flush()


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"standard output cannot be written ({error.strerror}); what was to be printed is lost"
        ) from error


class Terminal:
    """The person's own streams: `out` for results, `messages` for progress and failures."""

    def __init__(self, program: str, out: TextIO, messages: TextIO, *, quiet: bool, log: Path) -> None:
        self._out, self._messages = PlainConsole(out), PlainConsole(messages)
        self._program = program
        self._quiet = quiet
        self._log = log
        self._lines: ProgressLines | None = None
        self._loading: Live | None = None
        self.stopped = False

    @property
    def out(self) -> PlainConsole:
        """Where results go."""
        self._loaded()
        return self._out

    @property
    def messages(self) -> PlainConsole:
        """Where progress and failures go."""
        self._loaded()
        return self._messages

    @contextmanager
    def open(self) -> Iterator[None]:
        """Speak of long stages while the context is open, where nothing shows a bar and somebody may read.

        Where bars are shown, something moves from the start on: a toolchain takes seconds to be imported.
        """
        if self._quiet:
            yield
        elif self._messages.is_terminal:
            spinner = Spinner("dots", "loading")
            self._loading = Live(spinner, console=self._messages, transient=True, refresh_per_second=10, **OWN_STREAMS)
            self._loading.start()
            try:
                yield
            finally:
                self._loaded()
        else:
            with ProgressLines(self.note) as self._lines:
                yield

    def _loaded(self) -> None:
        """There is something else to show."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.stop()

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Bar]:
        """Show a bar while the context is open, or lines where there is no terminal to show it on."""
        self.go_on()
        if self._lines is not None:
            with self._lines.stage(title, total, unit) as bar:
                yield _StoppableBar(self, bar)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _SpeedColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        hidden = self._quiet or not self.messages.is_terminal
        with RichProgress(*columns, console=self.messages, transient=True, disable=hidden, **OWN_STREAMS) as progress:
            yield _StoppableBar(self, _RichBar(progress, title, total, unit))

    def go_on(self) -> None:
        """Raise `KeyboardInterrupt` if the person asked to stop."""
        if self.stopped:
            raise KeyboardInterrupt

    def json(self, value: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print a result as JSON."""
        self.out.file.write(to_text(value))

    def note(self, text: str) -> None:
        """Say one line that stays."""
        if not self._quiet:
            with suppress(OSError):  # whoever does not listen needs no note
                self.messages.print(printable(text), soft_wrap=True)

    def fail(self, text: str) -> None:
        """Say why the command stops, and where the toolchains' own words are; on one line, whatever is in the text."""
        said = f"{self._program}: {printable(' '.join(text.splitlines()))}"
        if self._log.is_file() and self._log.stat().st_size:
            said += f" (toolchain output: {printable(str(self._log))})"
        with suppress(OSError):  # the exit code says it too
            self.messages.print(said, style="red", soft_wrap=True)


class _SpeedColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Blank until the first units are done."""
        speed = task.finished_speed or task.speed
        return Text(rate(speed, task.fields["unit"]) if speed else "", style="progress.data.speed")


class _StoppableBar:
    """A bar that ends the run where the person asked for that."""

    def __init__(self, terminal: Terminal, bar: Bar) -> None:
        self._terminal, self._bar = terminal, bar

    def advance(self, count: int = 1, note: str = "") -> None:
        self._terminal.go_on()
        self._bar.advance(count, note)


class _RichBar:
    def __init__(self, progress: RichProgress, title: str, total: int, unit: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, unit=unit, note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        self._progress.advance(self._task, count)
        if note:
            self._progress.update(self._task, note=note)


def run_command(
    program: str, body: Callable[[Terminal], int], *, quiet: bool, debug: bool, interrupted: str = ""
) -> int:
    """Run `body` with toolchain chatter kept in a log file; failures become one line and their exit code.

    The log is deleted when all went well, or when it is empty. `interrupted` is what to say of a run that is stopped.
    """
    _occupy_standard_streams()
    try:
        with work_folder() as folder:
            log = folder / f"{program.replace(' ', '-')}.log"
            with _redirected(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as (out, messages):
                terminal = Terminal(program, out, messages, quiet=quiet, log=log)
                with _stoppable(terminal), terminal.open():
                    code = _guarded(terminal, body, debug=debug, interrupted=interrupted)
            if code == 0:
                log.unlink(missing_ok=True)
            return code
    except UsageError as error:  # before there was a terminal
        with suppress(OSError, AttributeError):
            print(f"{program}: {printable(str(error))}", file=sys.stderr)
        return error.exit_code


@contextmanager
def _stoppable(terminal: Terminal) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP unwind the run; what a toolchain swallows is raised again at the next progress.

    Further signals, while it unwinds, are ignored; after `PATIENCE_S` one ends the process as it is, as what it waits
    for may never come. A process that was started with one ignored goes on ignoring it.
    """
    impatient_at = math.inf

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal impatient_at
        if not terminal.stopped:
            terminal.stopped = True
            impatient_at = time.monotonic() + PATIENCE_S
            raise KeyboardInterrupt
        if time.monotonic() >= impatient_at:
            with suppress(OSError):
                os.write(terminal._messages.file.fileno(), b"ended at once; the next run tidies up\n")
            os._exit(INTERRUPTED)

    before = {number: signal.getsignal(number) for number in STOPS}
    heeded = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in heeded:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])


def _guarded(terminal: Terminal, body: Callable[[Terminal], int], *, debug: bool, interrupted: str) -> int:
    """The one place where failures end."""
    try:
        source_date()  # what is no moment is said here, before a library that reads the variable fails over it
        code = body(terminal)
        terminal.out.file.flush()
        return code
    except KeyboardInterrupt as stop:
        terminal.fail("; ".join(filter(None, ("interrupted", str(stop) or interrupted))))
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - nothing may reach the person as a traceback
        if debug:
            with suppress(OSError):
                terminal.messages.print(traceback.format_exc())
        if terminal.stopped:  # a toolchain that is interrupted may raise an error of its own instead
            terminal.fail("; ".join(filter(None, ("interrupted", interrupted))))
            return INTERRUPTED
        if isinstance(error, ModuleNotFoundError):
            error = unavailable(error) or error
        if isinstance(error, FileNotFoundError) and not _stands():
            error = UsageError("the folder this runs in is gone; change to one that exists")
        if isinstance(error, ExportError):
            terminal.fail(str(error))
            return error.exit_code
        terminal.fail(f"unexpected {error!r}; run again with --debug and report it")
        return UNEXPECTED


def _stands() -> bool:
    """Whether the working directory still exists."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _redirected(sink: int) -> Iterator[tuple[TextIO, TextIO]]:
    """Lead file descriptors 1 and 2 into `sink`; yield streams that still reach where they led before."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError):
            stream.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    out = StandardOutput(io.BufferedWriter(io.FileIO(os.dup(saved[0]), "w")), encoding="utf-8", errors="replace")
    streams = out, os.fdopen(os.dup(saved[1]), "w", encoding="utf-8", errors="replace")
    try:
        yield streams
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError):
                stream.flush()
        for descriptor, stream in zip((1, 2), streams, strict=True):
            with suppress(OSError, UsageError):  # whoever read has left, or a disk is full: that was said
                stream.close()
            os.dup2(saved[descriptor - 1], descriptor)
            os.close(saved[descriptor - 1])


def _occupy_standard_streams() -> None:
    """Give the numbers of closed standard streams to something that cannot be written, before a file gets them."""
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(descriptor)
