"""`SOURCE_DATE_EPOCH`: with it, what a run records follows from its inputs, its options and its tools alone.

https://reproducible-builds.org/specs/source-date-epoch/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.records import NotMeasured

VARIABLE = "SOURCE_DATE_EPOCH"
LAST = 253_402_300_799  # seconds from 1970 to the end of the year 9999
LEFT_OUT = NotMeasured(reason=f"{VARIABLE} is set: what differs from run to run is left out")


def source_date() -> datetime | None:
    """The moment that records shall name in place of the present one; None where the variable is not set."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,12}", text, re.ASCII) or int(text) > LAST:
        raise UsageError(f"{VARIABLE} {text!r} is no number of seconds since 1970; set one, or unset it")
    return datetime.fromtimestamp(int(text), UTC)


def is_reproducible() -> bool:
    """Whether times and machines are left out of records."""
    return source_date() is not None


@contextmanager
def at(epoch: int) -> Iterator[None]:
    """Records inside the context are reproducible, and name this moment."""
    before, os.environ[VARIABLE] = os.environ.get(VARIABLE), str(epoch)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
