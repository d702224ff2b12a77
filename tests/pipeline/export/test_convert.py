"""Targets are converted side by side where they allow it, and told of in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from rexnet_export.pipeline.artifact.target import Source, Target
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.progress import Step, Told
from rexnet_export.pipeline.core.records import Artifact
from rexnet_export.pipeline.export.convert import converted

SOURCE = cast("Source", SimpleNamespace(card=SimpleNamespace(name="net"), precision="int8"))
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Converting:
    """A target that does something when it is converted."""

    name: str
    does: Callable[[], object]
    beside: bool = False

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        assert source is SOURCE
        self.does()
        return cast("Artifact", folder / f"{stem}.{self.name}")


def run(*targets: Converting, steps: list[Step] | None = None) -> list[tuple[str, str]]:
    told = Told(([] if steps is None else steps).append)
    found = converted([cast("Target", target) for target in targets], SOURCE, Path("made"), told)
    return [(target.name, str(artifact)) for target, artifact in found]


def fail(message: str) -> Callable[[], None]:
    def failing() -> None:
        raise ConversionError(message)

    return failing


def test_what_may_runs_beside_the_others_and_all_are_told_in_their_order() -> None:
    begun, ended = threading.Event(), threading.Event()

    def alone() -> None:
        assert threading.current_thread() is threading.main_thread()
        assert begun.wait(PATIENCE_S)
        ended.set()

    def beside() -> None:
        begun.set()
        assert ended.wait(PATIENCE_S)

    steps: list[Step] = []
    found = run(
        Converting(name="one", does=alone),
        Converting(name="two", does=beside, beside=True),
        Converting(name="three", does=lambda: None),
        steps=steps,
    )
    assert found == [("one", "made/net-int8.one"), ("two", "made/net-int8.two"), ("three", "made/net-int8.three")]
    assert [(step.done, step.note) for step in steps] == [(0, ""), (1, "one"), (2, "two"), (3, "three")]


def test_of_two_that_fail_the_first_is_named() -> None:
    with pytest.raises(ConversionError, match="the first"):
        run(
            Converting(name="one", does=fail("the first")), Converting(name="two", does=fail("the second"), beside=True)
        )


def test_what_fails_beside_the_others_is_named_in_its_turn() -> None:
    done: list[str] = []
    with pytest.raises(ConversionError, match="the second"):
        run(
            Converting(name="one", does=lambda: done.append("one")),
            Converting(name="two", does=fail("the second"), beside=True),
            Converting(name="three", does=lambda: done.append("three")),
        )
    assert done == ["one"]
