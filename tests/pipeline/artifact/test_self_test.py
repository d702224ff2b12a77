from __future__ import annotations

import base64
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.artifact.self_test import (
    KEYS,
    SelfTest,
    Tolerance,
    check,
    describe_golden,
    enlarge,
    read_golden,
    sample_thumbnails,
)
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Measurement, ModelCard, NotMeasured, Precision, Preprocess
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.quantization.table.params import QuantParams

MOST_IMAGES = 64

SIZE, CLASSES = 96, 3
CARD = ModelCard(name="net", labels=("a", "b", "c"), preprocess=Preprocess(size=SIZE), checkpoint_sha256="0" * 64)
SMALL = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
STEP = 0.125
QPARAMS = {"logits": QuantParams(scale=(STEP,), zero_point=(0,))}


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Logits are three pixels of an image, plus what a test adds, to all images or to one logit of the first."""

    added: tuple[float, float, float] = (0.0, 0.0, 0.0)
    first: float = 0.0
    executed_by: str = "a runtime 1.0"
    timed: bool = True

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.shape[1:] == (SIZE, SIZE, 3)
        logits: NDArray[np.float32] = images[:, 5, 7].astype(np.float32) + np.array(self.added, np.float32)
        logits[0, 0] += self.first
        return logits

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {"logits": self.run(images)}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return self.outputs(images)


def metadata(precision: Precision = "int8", session: Plain | None = None) -> dict[str, str]:
    return describe(CARD, precision=precision) | describe_golden(session or Plain(), SMALL, (SIZE, SIZE))


def outcome(found: Measurement[SelfTest]) -> SelfTest:
    assert isinstance(found, SelfTest)
    return found


@given(st.integers(1, 8).map(lambda times: 32 * times))
def test_every_pixel_appears_equally_often(size: int) -> None:
    large = enlarge(SMALL, (size, size))
    assert large.shape == (2, size, size, 3)
    np.testing.assert_array_equal(large[:, :: size // 32, :: size // 32], SMALL)


def test_enlarging_repeats_every_pixel_in_place() -> None:
    times = SIZE // 32
    np.testing.assert_array_equal(enlarge(SMALL, (SIZE, SIZE)), SMALL.repeat(times, axis=1).repeat(times, axis=2))


def test_golden_images_are_the_packages_own() -> None:
    small = sample_thumbnails()
    assert (small.shape, small.dtype) == ((4, 32, 32, 3), np.uint8)
    assert len({image.tobytes() for image in small}) == 4
    whole = next(batches(bundled("evaluation"), Preprocess(size=32, crop_ratio=1.0), [0], 1))
    np.testing.assert_array_equal(small[:1], whole)


def test_golden_images_and_logits_survive_the_metadata() -> None:
    golden = read_golden(metadata())
    assert golden is not None
    np.testing.assert_array_equal(golden.images, enlarge(SMALL, (SIZE, SIZE)))
    np.testing.assert_array_equal(golden.logits, Plain().run(golden.images))
    assert golden.executed_by == "a runtime 1.0"


def test_the_same_logits_pass_and_say_who_gave_them() -> None:
    found = outcome(check(Plain(executed_by="a runtime 1.1"), metadata(), QPARAMS))
    assert found == SelfTest(
        passed=True,
        n=2,
        largest_difference=0.0,
        mean_difference=0.0,
        tolerance=Tolerance(largest=16 * STEP, mean=3 * STEP),
        largest_steps=0.0,
        same_top1=2,
        executed_then="a runtime 1.0",
        executed_now="a runtime 1.1",
    )


@pytest.mark.parametrize(
    ("steps", "passed"),
    [
        ((0, 8, -1), True),
        ((9, 0, 0), True),
        ((10, 0, 0), False),  # 10 / 3 on average
        ((4, -4, 4), False),
    ],
)
def test_int8_logits_may_move_by_three_steps_on_average(
    steps: tuple[int, int, int],
    passed: bool,  # noqa: FBT001 - a test's parameter
) -> None:
    one, other, third = steps
    moved = Plain(added=(one * STEP, other * STEP, third * STEP))
    found = outcome(check(moved, metadata(), QPARAMS))
    assert (found.passed, found.largest_steps) == (passed, max(map(abs, steps)))
    assert found.mean_difference == pytest.approx(STEP * sum(map(abs, steps)) / 3)


@pytest.mark.parametrize(("steps", "passed"), [(16, True), (17, False)])
def test_no_int8_logit_may_move_by_more_than_sixteen_steps(steps: int, passed: bool) -> None:  # noqa: FBT001 - as above
    found = outcome(check(Plain(first=steps * STEP), metadata(), QPARAMS))
    assert (found.passed, found.largest_steps) == (passed, steps)


@pytest.mark.parametrize(("precision", "relative"), [("fp32", 1e-3), ("fp16", 1e-2)])
def test_float_logits_may_move_by_a_part_of_the_largest(precision: Precision, relative: float) -> None:
    stored = metadata(precision)
    golden = read_golden(stored)
    assert golden is not None
    largest = float(golden.logits.max())
    inside, outside = (
        outcome(check(Plain(added=(0, 0, relative * largest * part)), stored, {})) for part in (0.9, 1.1)
    )
    assert (inside.passed, outside.passed) == (True, False)
    assert inside.largest_steps is None


def test_another_top1_is_counted() -> None:
    found = outcome(check(Plain(added=(0, 1000, 0)), metadata(), QPARAMS))
    assert not found.passed
    assert found.same_top1 == int((SMALL[:, 5 * 32 // SIZE, 7 * 32 // SIZE].argmax(1) == 1).sum())


def test_another_number_of_labels_is_damage() -> None:
    with pytest.raises(ConversionError, match="'golden_logits' is not 2 x 2 finite numbers"):
        check(Plain(), metadata() | {"labels": '["a", "b"]'}, QPARAMS)
    both = {"labels": '["a", "b"]', "golden_logits": floats(1, 2, 3, 4)}
    with pytest.raises(ConversionError, match=r"gives \(2, 3\) logits, not \(2, 2\)"):
        check(Plain(), metadata() | both, QPARAMS)


def test_a_file_without_golden_logits_is_not_tested() -> None:
    found = check(Plain(), describe(CARD, precision="int8"), QPARAMS)
    assert isinstance(found, NotMeasured)
    assert "no golden logits" in found.reason


@pytest.mark.parametrize("session", [Plain(added=(float("nan"), 0, 0)), Plain(added=(float("inf"), 0, 0))])
def test_logits_that_are_no_numbers_are_errors_then_and_now(session: Plain) -> None:
    with pytest.raises(ConversionError, match="not finite"):
        describe_golden(session, SMALL, (SIZE, SIZE))
    with pytest.raises(ConversionError, match="not finite"):
        check(session, metadata(), QPARAMS)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_part_is_damage(key: str) -> None:
    stored = metadata()
    del stored[key]
    with pytest.raises(ConversionError, match=f"no '{key}'"):
        read_golden(stored)


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def floats(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


HOSTILE = [
    ("golden_images", ""),
    ("golden_images", "no base64"),
    ("golden_images", "é"),
    ("golden_images", base64.b64encode(b"not compressed").decode()),
    ("golden_images", packed(b"")),
    ("golden_images", packed(bytes(32 * 32 * 3 + 1))),
    ("golden_images", packed(bytes(32 * 32 * 3 * (MOST_IMAGES + 1)))),
    ("golden_images", base64.b64encode(zlib.compress(SMALL.tobytes())[:-8]).decode()),
    ("golden_images", "A" * 10_000_000),
    ("golden_sha256", "0" * 64),
    ("golden_sha256", ""),
    ("golden_logits", ""),
    ("golden_logits", floats(*[1.0] * 5)),
    ("golden_logits", floats(*[1.0] * 7)),
    ("golden_logits", floats(1, 2, 3, 4, 5, float("nan"))),
    ("golden_logits", floats(1, 2, 3, 4, 5, float("inf"))),
    ("golden_logits", "!" * 32),
    ("golden_logits", "A" * 10_000_000),
    ("golden_executed_by", ""),
    ("golden_executed_by", "two\nlines"),
    ("golden_executed_by", "\x1b[31mred"),
    ("golden_executed_by", "x" * 1000),
    ("input_size", "99999"),
    ("labels", "[]"),
]


@pytest.mark.parametrize(("key", "value"), HOSTILE, ids=[f"{key}-{i}" for i, (key, _) in enumerate(HOSTILE)])
def test_hostile_metadata_is_refused_in_one_short_line(key: str, value: str) -> None:
    with pytest.raises(ConversionError) as caught:
        read_golden(metadata() | {key: value})
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: {"golden_images": packed(bytes(2**28))}, id="unpacks to 256 MiB"),
        pytest.param(lambda: {"input_size": "99999"}, id="60 GB of pixels"),
    ],
)
def test_hostile_metadata_costs_no_memory(bomb: Callable[[], dict[str, str]]) -> None:
    stored = metadata() | bomb()
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError):
            read_golden(stored)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
