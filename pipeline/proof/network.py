"""Networks of a proof. Open ones take memory, so those that are only witnesses are open while they run alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rexnet_export.pipeline.artifact.target import OutputSession, Target, is_emulated
from rexnet_export.pipeline.core.records import Artifact


@dataclass(frozen=True, kw_only=True)
class Network:
    """What runs something, known while nothing is open; `open` gives its session, which nobody else need hold."""

    open: Callable[[], OutputSession]
    executed_by: str
    timed: bool = False
    emulated: bool = False


def held(session: OutputSession) -> Network:
    """One that stays open."""
    return _of(session, lambda: session)


def of_file(target: Target, artifact: Artifact) -> Network:
    """Open a file, which says whether that works here; it stays open unless it is emulated.

    Raises `TargetUnavailable` where nothing here can execute it, as `Target.open` does.
    """
    session = target.open(artifact)
    return _of(session, partial(target.open, artifact)) if is_emulated(session) else held(session)


def _of(session: OutputSession, open_: Callable[[], OutputSession]) -> Network:
    return Network(open=open_, executed_by=session.executed_by, timed=session.timed, emulated=is_emulated(session))
