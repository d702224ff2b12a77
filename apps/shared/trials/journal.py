"""A journal: a line for what is asked and one per finished trial, so that a kill loses only what ran.

A resumed run may ask for more trials where these are named: another line for what is asked follows then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.errors import ConversionError, DataError, UsageError
from rexnet_export.pipeline.core.files import writing
from rexnet_export.pipeline.core.strict_json import an_object, strict_loads
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.core.untrusted import read_untrusted

JOURNAL = "journal.jsonl"
TRIALS = "trials"
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Kept[Result]:
    """What an older run of the same left: its finished trials, and the names of all that it was ever asked for."""

    results: tuple[Result, ...]
    trials: frozenset[str]


class Journal[Result]:
    """The journal of one output folder.

    `asked` is what a resumed run must have in common with the killed one, under the name `kind` (a search, a sweep);
    `trials` may be more or fewer than its own, by name, but each of them must be what it was. `read` and `write`
    are a result from and as JSON values: `read` may raise what a wrong value gives.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        asked: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], Result],
        write: Callable[[Result], Mapping[str, Any]],
        trials: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = folder / JOURNAL
        self._kind = kind
        # Tuples become lists, as they will be read back.
        self._asked: Mapping[str, Any] = json.loads(json.dumps(asked))
        self._trials: Mapping[str, Any] = json.loads(json.dumps(trials or {}))
        self._read = read
        self._write = write

    def begin(self) -> None:
        """Start anew; a folder that holds a journal already is left alone."""
        if self._path.exists() and self._text():
            raise UsageError(
                f"--output {self._path.parent} already holds a {self._kind} ({JOURNAL}): use --resume or another "
                "--output"
            )
        with writing(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # it was cut in its first line
        self._append(self._header())

    def resume(self) -> Kept[Result]:
        """What the same run has finished; a last line that was cut by a kill is dropped, new trials are noted."""
        whole = self._text()
        if not whole:
            raise DataError(f"{self._path} is damaged: it was cut in its first line; start without --resume")
        try:
            lines = [an_object(strict_loads(line), "a line") for line in whole.splitlines()]
            before = an_object(lines[0][self._kind], f"its {self._kind}")
            known = self._known(lines)
            results = tuple(self._read(line) for line in lines if self._kind not in line)
        except (ConversionError, KeyError, TypeError) as error:
            raise DataError(f"{self._path} is damaged: start again with another --output") from error
        common = known.keys() & self._trials.keys()
        changed = _changed(before, self._asked, before.keys() | self._asked.keys())
        if changed := [*changed, *(f"trial {told}" for told in _changed(known, self._trials, common))]:
            raise UsageError(
                f"{self._path} is of a {self._kind} with other {excerpt('; '.join(changed), 300)}: "
                "resume with its options, or give another --output"
            )
        with writing(self._path.parent):
            if self._path.stat().st_size > len(whole):
                os.truncate(self._path, len(whole))  # what is whole is never written again
        if self._trials.keys() - known.keys():
            self._append(self._header())
        return Kept(results=results, trials=frozenset(known))

    def _header(self) -> Mapping[str, Any]:
        return {self._kind: self._asked} | ({TRIALS: self._trials} if self._trials else {})

    def _known(self, lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """All named trials that were ever asked for."""
        known: dict[str, Any] = {}
        for line in lines:
            if self._kind in line:
                known |= an_object(line.get(TRIALS, {}), f"its {TRIALS}")
        return known

    def _text(self) -> bytes:
        """The lines that are whole."""
        try:
            content = read_untrusted(self._path, MOST_BYTES)
        except OSError as error:
            raise DataError(
                f"nothing to resume: {self._path} cannot be read ({error.strerror}); start without --resume"
            ) from error
        return content[: content.rfind(b"\n") + 1]

    def add(self, result: Result) -> None:
        """Keep a finished trial."""
        self._append(self._write(result))

    def _append(self, line: Mapping[str, Any]) -> None:
        with writing(self._path.parent), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Which of the names are not the same in both, and what each was and is; of a trial, which of its options."""
    return [_told(name, before.get(name), now.get(name)) for name in sorted(names) if before.get(name) != now.get(name)]


def _told(name: str, was: object, now: object) -> str:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return f"{name} ({', '.join(_changed(was, now, was.keys() | now.keys()))})"
    return f"{name} {_value(was)}, now {_value(now)}"


def _value(value: object) -> str:
    return "unset" if value is None else excerpt(json.dumps(value), 40)
