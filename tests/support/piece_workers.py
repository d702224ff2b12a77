"""Workers for pieces of images: in this process with copies of everything, and on Ray with pieces of few images."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.trial import run_away
from rexnet_export.apps.shared.trials.ray_cluster import RayWorkers
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.proof import pieces


@dataclass
class Copies:
    """All that goes to them and comes back is copied, as it is between processes; `sizes` are those of the pieces."""

    free: bool = True
    sizes: list[int] = field(default_factory=list)

    def idle(self) -> bool:
        return self.free

    def each[Work, Part, Result](
        self, run: Callable[[Work, Part], Result], work: Work, parts: Sequence[Part]
    ) -> Generator[Result]:
        content = pickle.dumps(work)
        for part in parts:
            self.sizes.append(len(part))  # type: ignore[arg-type]
            result: Result = pickle.loads(pickle.dumps(run(pickle.loads(content), part)))  # noqa: S301
            yield result


@dataclass
class Counted(RayWorkers):
    """Ray's, idle whatever else they do; `pieces` is how many ran."""

    pieces: int = 0

    def idle(self) -> bool:
        return True

    def each[Work, Part, Result](
        self, run: Callable[[Work, Part], Result], work: Work, parts: Sequence[Part]
    ) -> Generator[Result]:
        for result in super().each(run, work, parts):
            self.pieces += 1
            yield result


def away_in_pieces(trial: Trial, checkpoint: bytes | None) -> tuple[bytes, int]:
    """A trial on Ray whose images are run in pieces of 64; its folder, and how many pieces there were."""
    pieces.PIECE = 64
    workers = Counted()
    return run_away(trial, checkpoint, workers), workers.pieces


def summed(folder: Path, case: str) -> list[int] | bool:
    """A trial on Ray: three pieces of work, or only whether a worker is idle."""
    workers = RayWorkers()
    return workers.idle() if case == "idle" else list(workers.each(piece, (folder, case), range(3)))


def piece(work: tuple[Path, str], part: int) -> int:
    """In the second part, death once or damage, as the case is; the first may be slow."""
    folder, case = work
    died = folder / "died"
    if case == "dies once" and part == 1 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "fails" and part == 1:
        raise DataError("photo 1 is damaged; replace it")
    if case == "slow" and part == 0:
        time.sleep(1)
    return 10 * part
