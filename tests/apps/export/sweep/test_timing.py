"""What a sweep says of its files' speed where the machine was busy: a reason, and no number."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
from finished_trials import finish

from rexnet_export.apps.export.sweep import timing
from rexnet_export.apps.export.sweep.collect import collected
from rexnet_export.apps.export.sweep.page import page
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.sweep_json import SweepJson
from rexnet_export.apps.export.sweep.tables import rows, untimed
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.export.options import Options


class Watched:
    """A file whose blocks have so many runs that waited of 20, and so long a kernel before and after."""

    timed = True
    waited: ClassVar[int] = 0
    kernels: ClassVar[tuple[int, int]] = (400, 400)

    def __init__(self, _: Path) -> None:
        self._kernels = iter(self.kernels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def watch_block(self, image: np.ndarray, *, dropped: int, counted: int) -> tuple[tuple[int, ...], int]:
        assert (len(image), dropped, counted) == (1, 5, 20)
        return (2_000_000,) * counted, self.waited

    def time_kernel(self, **_: int) -> int:
        return next(self._kernels)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepJson:
    trials = [Trial(name=n, options=Options(target=("tflite",), output=tmp_path / "trials" / n)) for n in "ab"]
    monkeypatch.setattr(timing, "_image", lambda _: np.zeros((1, 32, 32, 3), np.uint8))
    monkeypatch.setattr(timing, "IsolatedFile", Watched)
    return collected(trials, {each.name: finish(each, "the same images") for each in trials}, tmp_path)


@pytest.mark.parametrize(("waited", "kernels"), [(5, (400, 400)), (0, (400, 440))])
def test_a_machine_that_is_quiet_enough_gives_times(
    sweep: SweepJson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: int, kernels: tuple[int, int]
) -> None:
    monkeypatch.setattr(Watched, "waited", waited)
    monkeypatch.setattr(Watched, "kernels", kernels)
    timings = timing.timed(sweep, tmp_path, Silent())
    assert {row[7] for row in rows(sweep, timings)} == {"2.00"}
    assert not list(untimed(timings))


@pytest.mark.parametrize(
    ("waited", "kernels", "trouble"),
    [
        (6, (400, 400), "30% of the runs waited for a processor"),
        (0, (400, 441), "its speed changed over 100% of the blocks"),
    ],
)
def test_a_busy_machine_gives_a_reason_and_no_time(
    sweep: SweepJson,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    waited: int,
    kernels: tuple[int, int],
    trouble: str,
) -> None:
    monkeypatch.setattr(Watched, "waited", waited)
    monkeypatch.setattr(Watched, "kernels", kernels)
    timings = timing.timed(sweep, tmp_path, Silent())
    assert all(isinstance(time, NotMeasured) for time in timings.files.values())
    assert {row[7] for row in rows(sweep, timings)} == {"-"}
    said = f"no p50 ms of 2 of 2 files: the machine was busy: {trouble}; time again when it is quiet"
    assert list(untimed(timings)) == [said]
    assert said in page(sweep, timings)
