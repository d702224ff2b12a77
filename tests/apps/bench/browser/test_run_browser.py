"""Waiting for a browser's result."""

import queue

import pytest

from rexnet_export.apps.bench.browser import run_browser
from rexnet_export.apps.bench.browser.site import Event
from rexnet_export.pipeline.core.errors import DeviceError


class Still:
    """A bar that shows nothing."""

    def advance(self, count: int = 1, note: str = "") -> None:
        pass


def events(*kinds: str) -> "queue.Queue[Event]":
    waiting: queue.Queue[Event] = queue.Queue()
    for kind in kinds:
        waiting.put(Event(kind=kind, content={"part": 0.5}))  # type: ignore[arg-type]
    return waiting


@pytest.mark.parametrize("kinds", [("opened", "left"), ("opened", "left", "news")])
def test_news_that_arrives_after_the_page_has_left_does_not_bring_it_back(
    kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_browser, "RELOAD_S", 0.1)
    with pytest.raises(DeviceError, match="the page was closed"):
        run_browser._awaited(events(*kinds), 30, Still())


def test_a_page_that_came_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_browser, "RELOAD_S", 0.1)
    with pytest.raises(DeviceError, match="no result from a browser in 1 s"):
        run_browser._awaited(events("opened", "left", "opened", "news"), 1, Still())
