"""`SOURCE_DATE_EPOCH` in the records that say when and where."""

from datetime import UTC, datetime

import pytest

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.json import now
from rexnet_export.pipeline.core.reproducible import is_reproducible, source_date
from rexnet_export.pipeline.machine.environment import environment, recorded_environment


def test_without_it_it_is_now_and_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = datetime.now(UTC).replace(microsecond=0)
    assert source_date() is None
    assert not is_reproducible()
    assert before <= datetime.fromisoformat(now()) <= datetime.now(UTC)
    assert recorded_environment() == environment()
    assert recorded_environment()["processor"]


def test_with_it_it_is_then_and_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert now() == "2023-11-14T22:13:20+00:00"
    there = recorded_environment()
    assert (there["system"], there["processor"], there["cores"]) == (None, None, None)
    assert there["packages"] == environment()["packages"]


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1.5", " 1", "٣", "9" * 12, "1" * 13, "1" * 5000])
def test_what_is_no_moment_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError, match="is no number of seconds since 1970"):
        now()
