"""Every step of a run is told, counted on from the last one; what the listener raises ends the run."""

from __future__ import annotations

import pytest

from rexnet_export.pipeline.core.progress import Step, Told, counted


def test_every_step_is_told() -> None:
    steps: list[Step] = []
    progress = Told(steps.append)
    with progress.stage("running", 5, "images") as bar:
        assert list(counted(iter([[1, 2], [3]]), bar)) == [[1, 2], [3]]
        bar.advance(2, "last")
    progress.note("a line")
    assert [(step.stage, step.done, step.total, step.unit, step.note) for step in steps] == [
        ("running", 0, 5, "images", ""),
        ("running", 2, 5, "images", ""),
        ("running", 3, 5, "images", ""),
        ("running", 5, 5, "images", "last"),
        ("", 0, 0, "", "a line"),
    ]


def test_what_the_listener_raises_ends_the_stage() -> None:
    def refuse(step: Step) -> None:
        if step.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Told(refuse).stage("running", 5, "images") as bar:
        bar.advance()
