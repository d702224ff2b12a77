"""The folder of what is kept between runs."""

from pathlib import Path

import pytest

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.machine.cache_folder import cache_folder


def test_it_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert cache_folder("web") == Path("/fast/rexnet-export/web")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder("web") == Path("/home/me/.cache/rexnet-export/web")


def test_a_user_without_a_home_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UsageError, match="no home folder; set HOME or XDG_CACHE_HOME"):
        cache_folder("web")
