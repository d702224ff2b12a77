"""Records as JSON, and JSON as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.core.reproducible import source_date
from rexnet_export.pipeline.core.text import harmless_json


def now() -> str:
    """The time of day, or `SOURCE_DATE_EPOCH`'s: UTC, to the second, as ISO 8601."""
    return (source_date() or datetime.now(UTC)).isoformat(timespec="seconds")


def plain(value: Any) -> Any:  # noqa: ANN401 - any record in, JSON out
    """Records as JSON values; `NotMeasured` becomes `{"not_measured": reason}`."""
    if isinstance(value, NotMeasured):
        return {"not_measured": value.reason}
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def to_text(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON with a final newline; infinities are refused rather than written as no JSON reader takes them.

    Signs that would command a terminal are escaped.
    """
    return harmless_json(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"
