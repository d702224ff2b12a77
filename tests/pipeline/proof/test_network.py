"""Which files of a proof stay open, and what is known of those that do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.records import Artifact, StoredFile
from rexnet_export.pipeline.proof.network import of_file

FILE = Artifact(target="fake", precision="int8", file=StoredFile(path=Path("a"), sha256="0" * 64, bytes=1))


@dataclass(eq=False)
class Session:
    """All that is asked of it before it runs."""

    emulated: bool
    executed_by: str = "a fake"
    timed: bool = True


@dataclass
class Fake:
    """Notes what it opens."""

    emulated: bool
    opened: list[Session] = field(default_factory=list)

    def open(self, artifact: Artifact) -> Session:
        assert artifact is FILE
        self.opened.append(Session(self.emulated))
        return self.opened[-1]


@pytest.mark.parametrize("emulated", [True, False])
def test_an_emulated_file_is_opened_for_those_who_run_it_and_others_stay_open(*, emulated: bool) -> None:
    target = Fake(emulated)
    network = of_file(cast("Target", target), FILE)
    assert (network.executed_by, network.timed, network.emulated) == ("a fake", True, emulated)
    one, other = network.open(), network.open()
    assert (one is other) is not emulated
    assert (one is target.opened[0]) is not emulated


def test_a_file_that_nothing_here_runs_is_told_before_anything_runs() -> None:
    class Elsewhere:
        def open(self, _: Artifact) -> Session:
            raise TargetUnavailable("needs another machine")

    with pytest.raises(TargetUnavailable, match="needs another machine"):
        of_file(cast("Target", Elsewhere()), FILE)
