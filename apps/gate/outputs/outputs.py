"""Where a gate's result goes beside the terminal: files for CI, and what GitHub Actions picks up by itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rexnet_export.apps.gate.outputs.benchmark_json import bencher, bigger_is_better, smaller_is_better
from rexnet_export.apps.gate.outputs.flags import FORMATS
from rexnet_export.apps.gate.outputs.github import annotation_lines
from rexnet_export.apps.gate.outputs.html import page
from rexnet_export.apps.gate.outputs.junit import junit
from rexnet_export.apps.gate.outputs.markdown import markdown
from rexnet_export.apps.gate.outputs.sheet import Sheet, not_done, printable_sheet
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import try_file, writing_file
from rexnet_export.pipeline.core.records import write_whole

RENDERED: Mapping[str, Callable[[Sheet], str]] = {
    "--junit": junit,
    "--markdown": markdown,
    "--html": page,
    "--benchmark": smaller_is_better,
    "--benchmark-bigger": bigger_is_better,
    "--bencher": bencher,
}


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files asked for, by flag; `github` where GitHub Actions runs the command, `summary` its step's summary."""

    command: str
    files: Mapping[str, Path]
    github: bool
    summary: Path | None

    @contextmanager
    def failures(self, terminal: Terminal) -> Iterator[None]:
        """Say in every output that a run ended before there was a result: no older file may stand for it."""
        try:
            yield
        except BaseException as error:
            try:
                self.write(not_done(self.command, error), terminal)
            except UsageError as unwritten:
                terminal.note(str(unwritten))
            raise

    def write(self, sheet: Sheet, terminal: Terminal) -> None:
        """Write every file, whole or not at all; on GitHub Actions also the summary, and annotations on stderr."""
        sheet = printable_sheet(sheet)
        for flag, path in self.files.items():
            content = RENDERED[flag](sheet).encode(errors="replace")
            with writing_file(f"{flag} {path}"):
                write_whole(path, content)
        if self.github:
            terminal.messages.file.write(annotation_lines(sheet).encode(errors="replace").decode())
            terminal.messages.file.flush()
        if self.summary is not None:
            try:
                with self.summary.open("a", encoding="utf-8", errors="replace") as stream:
                    stream.write(markdown(sheet) + "\n")
            except OSError as error:  # the runner's file, not one that was asked for
                terminal.note(f"GITHUB_STEP_SUMMARY {self.summary} cannot be written ({error.strerror})")


def planned(command: str, arguments: argparse.Namespace) -> Outputs:
    """The outputs asked for; a path that cannot be written is refused now, not after minutes of work."""
    given: dict[str, Path | None] = {
        flag: getattr(arguments, flag.removeprefix("--").replace("-", "_")) for flag in FORMATS
    }
    places: dict[Path, str] = {}
    for flag, path in given.items():
        if path is None:
            continue
        with writing_file(f"{flag} {path}"):
            try_file(path)
            place = path.resolve()  # a link is followed, not replaced
        if place in places:
            raise UsageError(f"{flag} {path}: {places[place]} writes there too; name another file")
        places[place] = flag
    github = os.environ.get("GITHUB_ACTIONS") == "true"
    summary = os.environ.get("GITHUB_STEP_SUMMARY") if github else None
    files = {flag: path for path, flag in places.items()}
    return Outputs(command=command, files=files, github=github, summary=Path(summary) if summary else None)
