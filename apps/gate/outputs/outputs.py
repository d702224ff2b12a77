"""Where a gate's result goes beside the terminal: files for CI, and what GitHub Actions picks up by itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rexnet_export.apps.gate.outputs.benchmark_json import bencher, bigger_is_better, smaller_is_better
from rexnet_export.apps.gate.outputs.github import annotation_lines
from rexnet_export.apps.gate.outputs.html import page
from rexnet_export.apps.gate.outputs.junit import junit
from rexnet_export.apps.gate.outputs.markdown import markdown
from rexnet_export.apps.gate.outputs.sheet import Sheet, not_done, printable_sheet
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import try_file, writing_file
from rexnet_export.pipeline.core.records import write_whole


@dataclass(frozen=True, kw_only=True)
class Format:
    """A flag that takes a file, and what is written there."""

    flag: str
    render: Callable[[Sheet], str]
    help: str


FORMATS = (
    Format(flag="--junit", render=junit, help="write JUnit XML: a case for each artifact and check"),
    Format(flag="--markdown", render=markdown, help="write Markdown for a pull request"),
    Format(flag="--html", render=page, help="write a page with intervals and flipped images"),
    Format(
        flag="--benchmark",
        render=smaller_is_better,
        help="write JSON for github-action-benchmark, tool customSmallerIsBetter",
    ),
    Format(
        flag="--benchmark-bigger",
        render=bigger_is_better,
        help="the same for its tool customBiggerIsBetter",
    ),
    Format(flag="--bencher", render=bencher, help="write Bencher Metric Format"),
)


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
        for output in FORMATS:
            if path := self.files.get(output.flag):
                content = output.render(sheet).encode(errors="replace")
                with writing_file(f"{output.flag} {path}"):
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


def add_outputs(p: argparse.ArgumentParser) -> None:
    """One flag for each format."""
    group = p.add_argument_group("files for CI, written whatever the verdict")
    for output in FORMATS:
        group.add_argument(output.flag, type=Path, metavar="FILE", help=output.help)


def planned(command: str, arguments: argparse.Namespace) -> Outputs:
    """The outputs asked for; a path that cannot be written is refused now, not after minutes of work."""
    given: dict[str, Path | None] = {
        output.flag: getattr(arguments, output.flag[2:].replace("-", "_")) for output in FORMATS
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
