"""A search's journal: a line for what is searched and one per finished trial: a kill loses only what ran."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.errors import ConversionError, DataError, UsageError
from rexnet_export.pipeline.core.files import writing
from rexnet_export.pipeline.core.strict_json import an_object, strict_loads
from rexnet_export.pipeline.core.untrusted import read_untrusted

JOURNAL = "journal.jsonl"
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What one configuration reached: top-1 of each repetition on the evaluation images."""

    index: int
    channels: tuple[int, ...]
    parameters: int
    macs: int
    top1: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean top-1 of the repetitions."""
        return sum(self.top1) / len(self.top1)


class Journal:
    """The journal of one output folder."""

    def __init__(self, folder: Path, search: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self._search = json.loads(json.dumps(search))  # tuples become lists, as they will be read back

    def begin(self) -> None:
        """Start anew; a folder that holds a search already is left alone."""
        if self._path.exists() and self._text():
            raise UsageError(
                f"--output {self._path.parent} already holds a search ({JOURNAL}): use --resume or another --output"
            )
        with writing(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # it was cut in its first line
        self._append({"search": self._search})

    def resume(self) -> tuple[TrialResult, ...]:
        """Finished trials of the same search; a last line that was cut by a kill is dropped."""
        whole = self._text()
        if not whole:
            raise DataError(f"{self._path} is damaged: it was cut in its first line; start without --resume")
        try:
            header, *lines = [strict_loads(line) for line in whole.splitlines()]
            before = an_object(an_object(header, "its first line")["search"], "its search")
            results = tuple(_result(an_object(line, "a line")) for line in lines)
        except (ConversionError, KeyError, TypeError) as error:
            raise DataError(f"{self._path} is damaged: start again with another --output") from error
        names = sorted(before.keys() | self._search.keys())
        changed = [name for name in names if before.get(name) != self._search.get(name)]
        if changed:
            raise UsageError(
                f"{self._path} is of a search with other {', '.join(changed)}: "
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

    def add(self, result: TrialResult) -> None:
        """Keep a finished trial."""
        self._append(asdict(result))

    def _append(self, line: Mapping[str, Any]) -> None:
        with writing(self._path.parent), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _result(line: Mapping[str, Any]) -> TrialResult:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items()}
    return TrialResult(**values)
