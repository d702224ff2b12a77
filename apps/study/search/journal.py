"""What a search keeps of each finished trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rexnet_export.apps.shared.trials.journal import Journal


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


def search_journal(folder: Path, search: Mapping[str, Any]) -> Journal[TrialResult]:
    """The journal of the search in one output folder."""
    return Journal(folder, "search", search, _result, asdict)


def _result(line: Mapping[str, Any]) -> TrialResult:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items()}
    return TrialResult(**values)
