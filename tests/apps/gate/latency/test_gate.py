"""The gate's own steps, with artifacts that only pretend to run: one confirm run, refusals, and what FAIL covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from timed_files import FakeTimed

from rexnet_export.apps.gate.latency.decision import Pair
from rexnet_export.apps.gate.latency.gate import LatencyGate, Request, block_medians, middle, run, tail
from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.artifact.structure import Structure
from rexnet_export.pipeline.core.errors import ConversionError, InvalidMeasurement, UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Coverage, ModelCard, NotMeasured, Preprocess

OWN_PROCESS = 0  # has no entry in /proc


@dataclass
class FakeFile(FakeTimed):
    """A pretended artifact: `ratios` multiplies its time, block by block, over and over."""

    path: Path = Path()
    size: int | tuple[int, int] = 32
    channels: int = 3
    timed: bool = True
    operators: int = 7
    ratios: Sequence[float] = (1.0,)
    closed: bool = False
    process_id: int = OWN_PROCESS
    executed_by: str = "fake runtime"
    _blocks: int = field(default=-1)

    def inspect(self) -> Inspection:
        card = ModelCard(name="net", labels=("a", "b"), preprocess=self._preprocess(), checkpoint_sha256="0" * 64)
        structure = Structure(
            tensor_bytes=3,
            operators={"CONV_2D": self.operators},
            float_islands=0,
            qdq_pairs=0,
            arena_bytes=NotMeasured(reason="fake"),
        )
        return Inspection(
            metadata=lambda: describe(card, precision="int8"),
            coverage=lambda: Coverage(int8_macs=5, total_macs=5, float_ops=()),
            structure=lambda: structure,
            qparams=dict,
            parameters=dict,
        )

    def _preprocess(self) -> Preprocess:
        return Preprocess(size=self.size, mean=(0.5,) * self.channels, std=(0.5,) * self.channels)

    def time_block(self, image: np.ndarray, *, dropped: int, counted: int) -> tuple[int, ...]:
        assert image.shape == (1, *self._preprocess().shape, self.channels)
        self._blocks += 1
        ratio = self.ratios[self._blocks % len(self.ratios)]
        return tuple(round(spent * ratio) for spent in super().time_block(image, dropped=dropped, counted=counted))

    def __enter__(self) -> FakeFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


type Gate = Callable[..., LatencyGate]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("base.tflite", "candidate.tflite"):
        (tmp_path / name).write_bytes(b"same")
    return tmp_path / "base.tflite", tmp_path / "candidate.tflite"


def gated(paths: tuple[Path, Path], base: FakeFile, candidate: FakeFile, **request: int) -> LatencyGate:
    base.path, candidate.path = paths
    files = iter((base, candidate))
    return run(Request(base=paths[0], candidate=paths[1], **request), lambda _path, _threads: next(files), Silent())


def blocks(found: LatencyGate) -> list[int]:
    return [len(run.pairs) for run in found.runs]


def test_equal_artifacts_pass_in_one_run(paths: tuple[Path, Path]) -> None:
    base, candidate = FakeFile("base", 2.0), FakeFile("candidate", 2.0)
    found = gated(paths, base, candidate)
    assert (found.verdict, blocks(found), found.failures) == ("PASS", [20], ())
    assert (found.margin, found.threads) == (0.1, 1)
    assert found.decision.reason == "at most 1.000 times as long, 1.1 allowed"
    assert base.closed
    assert candidate.closed


def test_a_slower_one_fails(paths: tuple[Path, Path]) -> None:
    found = gated(paths, FakeFile("base", 2.0), FakeFile("candidate", 2.5))
    assert (found.verdict, blocks(found)) == ("FAIL", [20])
    assert "1.250 times as long" in found.failures[0]


def test_what_is_undecided_is_run_once_more_with_twice_the_pairs_and_never_again(paths: tuple[Path, Path]) -> None:
    candidate = FakeFile("candidate", 2.0, ratios=(1.0, 1.2))
    found = gated(paths, FakeFile("base", 2.0), candidate, pairs=20)
    assert (found.verdict, blocks(found)) == ("INCONCLUSIVE", [20, 40])
    assert found.runs[0].seed != found.runs[1].seed
    assert "pairs" in found.advice


@pytest.mark.parametrize(
    ("needed", "advice"),
    [(3, "--pairs 5"), (480, "--pairs 480"), (1_000, "--pairs 1000"), (1_001, "more than a run may have (1,000)")],
)
def test_no_pairs_are_advised_that_would_be_refused(paths: tuple[Path, Path], needed: int, advice: str) -> None:
    found = gated(paths, FakeFile("base", 2.0), FakeFile("candidate", 2.0, ratios=(1.0, 1.2)), pairs=20)
    last = replace(found.runs[-1], decision=replace(found.decision, pairs_needed=needed))
    assert replace(found, runs=(last,)).advice.endswith(advice)


def test_the_second_run_decides_alone(paths: tuple[Path, Path]) -> None:
    undecided = [1.0, 1.2] * 10
    candidate = FakeFile("candidate", 2.0, ratios=[1.0, *undecided, *([1.3] * 40)])
    found = gated(paths, FakeFile("base", 2.0), candidate, pairs=20)
    assert [run.decision.verdict for run in found.runs] == ["INCONCLUSIVE", "FAIL"]
    assert found.verdict == "FAIL"


def test_an_unsteady_machine_is_not_tried_again(paths: tuple[Path, Path]) -> None:
    base = FakeFile("base", 2.0, kernels=[400.0, 500.0] * 100)
    found = gated(paths, base, FakeFile("candidate", 2.0))
    assert (found.verdict, blocks(found)) == ("INVALID", [20])


def test_a_fast_artifact_that_is_worse_in_a_signal_fails(paths: tuple[Path, Path]) -> None:
    found = gated(paths, FakeFile("base", 2.0), FakeFile("candidate", 1.0, operators=8))
    assert (found.decision.verdict, found.verdict) == ("PASS", "FAIL")
    assert found.failures == ("operators: 7 became 8 (+1 CONV_2D)",)


def test_signals_that_could_not_be_compared_are_no_failure(paths: tuple[Path, Path]) -> None:
    found = gated(paths, FakeFile("base", 2.0), FakeFile("candidate", 2.0))
    assert replace(found, signals=NotMeasured(reason="two formats")).verdict == "PASS"


def test_the_same_seed_gives_the_same_orders(paths: tuple[Path, Path]) -> None:
    orders = [
        [pair.order for pair in gated(paths, FakeFile("b", 2.0), FakeFile("c", 2.0), seed=seed).runs[0].pairs]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("size", "channels", "said"),
    [
        (64, 3, r"takes images of 32 px and candidate\.tflite of 64 px: "),
        ((32, 64), 3, r"takes images of 32 px and candidate\.tflite of 64 x 32 px: "),
        (32, 2, r"takes images of 32 px and candidate\.tflite of 32 px with 2 channels: "),
    ],
)
def test_different_inputs_are_refused_and_both_files_closed(
    paths: tuple[Path, Path], size: int | tuple[int, int], channels: int, said: str
) -> None:
    base, candidate = FakeFile("base", 2.0), FakeFile("candidate", 2.0, size=size, channels=channels)
    with pytest.raises(UsageError, match=said):
        gated(paths, base, candidate)
    assert base.closed
    assert candidate.closed


def test_images_have_the_shape_that_both_files_take(paths: tuple[Path, Path]) -> None:
    """`FakeFile` asserts it of every image."""
    one, other = (FakeFile(name, 2.0, size=(32, 64), channels=2) for name in ("base", "candidate"))
    assert gated(paths, one, other).verdict == "PASS"


def test_an_interpreters_speed_is_refused(paths: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidMeasurement, match=r"candidate\.tflite is executed here by the fake runtime"):
        gated(paths, FakeFile("base", 2.0), FakeFile("candidate", 2.0, timed=False))


def test_emulation_is_refused(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet_export.apps.gate.latency.gate.emulator", lambda _: "qemu-aarch64")
    with pytest.raises(InvalidMeasurement, match="qemu-aarch64"):
        gated(paths, FakeFile("base", 2.0), FakeFile("candidate", 2.0))


def test_the_first_file_is_closed_when_the_second_cannot_be_opened(paths: tuple[Path, Path]) -> None:
    base = FakeFile("base", 2.0, path=paths[0])

    def open_file(path: Path, threads: int) -> FakeFile:
        if path != paths[0]:
            raise ConversionError("damaged")
        return base

    with pytest.raises(ConversionError, match="damaged"):
        run(Request(base=paths[0], candidate=paths[1]), open_file, Silent())
    assert base.closed


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": 4},
        {"pairs": 1001},
        {"margin": 0.0},
        {"margin": 100.0},
        {"margin": -1.0},
        {"margin": float("nan")},
        {"margin": float("inf")},
        {"threads": 0},
        {"threads": 10_000},
        {"seed": -1},
    ],
)
def test_numbers_no_run_could_honour_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        Request(base=Path("a.ort"), candidate=Path("b.ort"), **wrong)  # type: ignore[arg-type]


def test_without_flags_twenty_pairs_may_be_a_tenth_slower_in_one_thread() -> None:
    found = Request(base=Path("a.ort"), candidate=Path("b.ort"))
    assert (found.pairs, found.margin, found.threads, found.seed) == (20, 10.0, 1, 0)


@pytest.mark.parametrize("asked", [{"pairs": 5}, {"pairs": 1_000}, {"margin": 0.1}, {"margin": 99.9}, {"seed": 0}])
def test_the_ends_of_what_can_be_asked_are_taken(asked: dict[str, float]) -> None:
    Request(base=Path("a.ort"), candidate=Path("b.ort"), **asked)  # type: ignore[arg-type]


def test_times_of_unsteady_pairs_are_not_in_the_tail() -> None:
    steady = Pair(
        order=("base", "candidate"),
        base_ns=(5,) * 100,
        candidate_ns=(6, 7, 8),
        kernel_before_ns=10,
        kernel_after_ns=10,
    )
    unsteady = Pair(
        order=("base", "candidate"), base_ns=(900,) * 100, candidate_ns=(9,), kernel_before_ns=10, kernel_after_ns=20
    )
    assert tail((steady, unsteady), "base", 0.9) == 5
    assert isinstance(tail((unsteady,), "base", 0.9), NotMeasured)
    assert block_medians((steady, unsteady), "candidate") == (7, 9)


@pytest.mark.parametrize(("medians", "expected"), [([3, 9, 1], 3), ([4, 1, 3, 2], 3), ([5, 1, 4, 2, 3], 3)])
def test_the_middle_of_all_blocks_is_one_of_them(medians: list[int], expected: int) -> None:
    pairs = tuple(
        Pair(order=("base", "candidate"), base_ns=(7,), candidate_ns=(each,), kernel_before_ns=1, kernel_after_ns=1)
        for each in medians
    )
    assert middle(pairs, "candidate") == expected
    assert middle(pairs, "base") == 7
