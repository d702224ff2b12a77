"""A journal: a line for what is asked and one per finished trial, so that a kill loses only what ran."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.errors import ConversionError, DataError, UsageError
from rexnet_export.pipeline.core.files import writing
from rexnet_export.pipeline.core.strict_json import an_object, strict_loads
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.core.untrusted import read_untrusted

JOURNAL = "journal.jsonl"
MOST_BYTES = 64 * 2**20


class Journal[Result]:
    """The journal of one output folder.

    `asked` is what a resumed run must have in common with the killed one, under the name `kind` (a search, a sweep);
    `read` and `write` are a result from and as JSON values: `read` may raise what a wrong value gives.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        asked: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], Result],
        write: Callable[[Result], Mapping[str, Any]],
    ) -> None:
        self._path = folder / JOURNAL
        self._kind = kind
        self._asked = json.loads(json.dumps(asked))  # tuples become lists, as they will be read back
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
        self._append({self._kind: self._asked})

    def resume(self) -> tuple[Result, ...]:
        """Finished trials of the same run; a last line that was cut by a kill is dropped."""
        whole = self._text()
        if not whole:
            raise DataError(f"{self._path} is damaged: it was cut in its first line; start without --resume")
        try:
            header, *lines = [strict_loads(line) for line in whole.splitlines()]
            before = an_object(an_object(header, "its first line")[self._kind], f"its {self._kind}")
            results = tuple(self._read(an_object(line, "a line")) for line in lines)
        except (ConversionError, KeyError, TypeError) as error:
            raise DataError(f"{self._path} is damaged: start again with another --output") from error
        names = sorted(before.keys() | self._asked.keys())
        changed = [name for name in names if before.get(name) != self._asked.get(name)]
        if changed:
            raise UsageError(
                f"{self._path} is of a {self._kind} with other {excerpt(', '.join(changed))}: "
                "resume with its options, or give another --output"
            )
        with writing(self._path.parent):
            if self._path.stat().st_size > len(whole):
                os.truncate(self._path, len(whole))  # what is whole is never written again
        return results

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
