"""Emulated files: which images they see first, when these are enough, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.evaluate import Logits, accuracy
from rexnet_export.pipeline.artifact.target import OutputSession
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import HeadOutput, ModelCard, NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import choose
from rexnet_export.pipeline.proof.looks import looks, run_looks
from rexnet_export.pipeline.proof.network import Network
from rexnet_export.pipeline.proof.run_networks import Given, Networks, Run

CLASSES = 10
CARD = ModelCard(name="a", labels=tuple("abcdefghij"), preprocess=Preprocess(), checkpoint_sha256="0" * 64)
HALF_A_POINT = 0.005


@dataclass
class Photos:
    """Labelled images that are only named."""

    labels: NDArray[np.int64]
    name: str = "photos"

    def __len__(self) -> int:
        return len(self.labels)


def images(labels: NDArray[np.int64]) -> Images:
    return Images(source=Photos(labels), indices=tuple(range(len(labels))), labels=labels)  # type: ignore[arg-type]


SORTED = images(np.repeat(np.arange(CLASSES), 1000))


def first_of(chosen: Images, card: ModelCard = CARD, seed: int = 0) -> NDArray[np.int64]:
    found = looks(chosen, card, HALF_A_POINT, seed)
    assert found is not None
    return found.first


@pytest.mark.parametrize("labels", [np.repeat(np.arange(10), 1000), np.arange(10_000) % 10])
def test_a_first_look_has_all_classes_in_proportion(labels: NDArray[np.int64]) -> None:
    """In whatever order they lie: sorted by class, or in turns."""
    first = first_of(images(labels))
    assert len(set(first.tolist())) == 2000
    assert (np.diff(first) > 0).all()
    assert np.bincount(labels[first]).tolist() == [200] * 10


def test_a_first_look_is_the_same_again_and_hangs_on_the_seed() -> None:
    assert np.array_equal(first_of(SORTED), first_of(SORTED))
    assert not np.array_equal(first_of(SORTED), first_of(SORTED, seed=1))


def test_a_first_look_holds_what_a_bundle_for_devices_does() -> None:
    assert set(choose(SORTED.source, 1000, 0)) <= set(first_of(SORTED).tolist())


def test_places_are_among_the_images_in_use() -> None:
    """Some are not evaluated on, one of them because it cannot be read."""
    kept = tuple(sorted(choose(SORTED.source, 5000, 0)))[1:]
    some = replace(SORTED, indices=kept, labels=np.array([SORTED.source.labels[index] for index in kept]))  # type: ignore[index]
    first = first_of(some)
    assert len(first) == 2000
    assert {kept[place] for place in first} <= set(choose(SORTED.source, 2001, 0))


@pytest.mark.parametrize(
    ("chosen", "card"),
    [
        (images(np.arange(2000) % 10), CARD),
        (replace(SORTED, labels=None), CARD),
        (SORTED, replace(CARD, labels=(), numbers=3)),
        (SORTED, replace(CARD, heads=(HeadOutput(name="head.x", numbers=2),))),
    ],
    ids=["few", "unlabelled", "numbers", "heads"],
)
def test_all_are_seen_at_once_where_nothing_says_what_is_enough(chosen: Images, card: ModelCard) -> None:
    assert looks(chosen, card, HALF_A_POINT, 0) is None


def test_one_image_more_is_left_for_a_second_look() -> None:
    assert len(first_of(images(np.arange(2001) % 10))) == 2000


@dataclass
class Planted:
    """Runs networks: right on every image but those that are planted; notes how many images each was asked about."""

    wrong: dict[str, NDArray[np.int64]]
    logarithms: bool = False
    asked: dict[str, list[int]] = field(default_factory=dict)

    def logits(self, name: str, labels: NDArray[np.int64]) -> Logits:
        chosen = labels.copy()
        chosen[self.wrong[name]] = (chosen[self.wrong[name]] + 1) % CLASSES
        return np.eye(CLASSES, dtype=np.float32)[chosen] * 4 + np.arange(len(labels), dtype=np.float32)[:, None] / 1e5

    def __call__(self, networks: Networks, chosen: Images, _: Preprocess) -> Iterator[Given]:
        assert chosen.labels is None
        for start in range(0, len(chosen.indices), 64):
            batch = list(chosen.indices[start : start + 64])
            for name in networks:
                self.asked.setdefault(name, []).extend(batch)
                values = self.logits(name, SORTED.labels)[batch]  # type: ignore[arg-type]
                yield name, {"log_probabilities" if self.logarithms else "logits": values}


def unopened() -> OutputSession:
    raise AssertionError


def ran(planted: Planted, bound: float | None = HALF_A_POINT) -> tuple[dict[str, Run], Logits]:
    """By looks with a bound, or at all images at once."""
    judged = None if bound is None else replace(looks(SORTED, CARD, bound, 0), bound=bound)  # type: ignore[type-var]
    reference = np.eye(CLASSES, dtype=np.float32)[SORTED.labels] * 5  # type: ignore[index]
    networks = {name: Network(open=unopened, executed_by="an interpreter") for name in planted.wrong}
    return run_looks(networks, reference, SORTED, Preprocess(), Silent(), planted, judged), reference


def test_a_file_that_loses_nothing_is_seen_once() -> None:
    planted = Planted({"coreml": np.arange(0, 10_000, 2500)})
    runs, _ = ran(planted)
    run, first = runs["coreml"], first_of(SORTED)
    assert planted.asked["coreml"] == first.tolist()
    assert run.places is not None
    assert np.array_equal(run.places, first)
    assert np.array_equal(run.answers, planted.logits("coreml", SORTED.labels)[first])  # type: ignore[arg-type]
    (logits,) = run.outputs
    assert (logits.name, logits.values) == ("logits", 2000 * CLASSES)
    assert not isinstance(logits.sqnr_db, NotMeasured)


def test_one_whose_loss_is_not_shown_to_be_small_is_asked_about_the_others_too() -> None:
    """One image in a hundred: a loss of a point."""
    planted = Planted({"coreml": np.array([1]), "ort": np.arange(0, 10_000, 100)})
    runs, reference = ran(planted)
    assert sorted(planted.asked["ort"]) == list(range(10_000))
    assert len(planted.asked["coreml"]) == 2000
    run = runs["ort"]
    assert run.places is None
    assert np.array_equal(run.answers, planted.logits("ort", SORTED.labels))  # type: ignore[arg-type]
    assert run.outputs[0].values == 10_000 * CLASSES
    assert run.at(reference) is reference


def test_the_bound_decides() -> None:
    """6 of the first 2,000 lost: at most 0.65 points by a limit of 97.5 %, and 0.60 by one of 95 %."""
    lost = first_of(SORTED)[::333][:6]
    for bound, seen in ((0.0067, 2000), (0.0062, 10_000)):
        planted = Planted({"coreml": lost})
        ran(planted, bound)
        assert len(planted.asked["coreml"]) == seen


def test_limits_of_either_look_hold_for_both() -> None:
    planted = Planted({"coreml": np.array([1]), "ort": np.arange(0, 10_000, 100)})
    runs, reference = ran(planted)
    for run in runs.values():
        labels = run.at(SORTED.labels)  # type: ignore[type-var]
        once = accuracy(run.answers, run.at(reference), labels)
        both = accuracy(run.answers, run.at(reference), labels, run.looks)
        assert (both.drop, both.n) == (once.drop, once.n)
        assert both.drop_lower_95 < once.drop_lower_95 < once.drop_upper_95 < both.drop_upper_95


def test_probabilities_are_compared_by_their_logarithm() -> None:
    runs, _ = ran(Planted({"tflite": np.array([1])}, logarithms=True))
    assert [each.name for each in runs["tflite"].outputs] == ["log_probabilities"]


def test_logits_that_are_no_numbers_are_refused() -> None:
    planted = Planted({"coreml": np.array([1])})
    planted.logits = lambda *_: np.full((10_000, CLASSES), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(ConversionError, match="coreml: an interpreter gave logits that are not finite"):
        ran(planted)


def test_without_looks_all_are_seen_once_and_judged_as_one_look() -> None:
    planted = Planted({"coreml": np.array([1]), "ort": np.arange(0, 10_000, 100)})
    runs, _ = ran(planted, None)
    for name, run in runs.items():
        assert planted.asked[name] == list(range(10_000))
        assert (run.places, run.looks) == (None, 1)
        assert np.array_equal(run.answers, planted.logits(name, SORTED.labels))  # type: ignore[arg-type]
        assert run.outputs[0].values == 10_000 * CLASSES


def test_where_nothing_is_to_be_looked_at_nothing_is_run() -> None:
    planted = Planted({})
    assert (ran(planted)[0], ran(planted, None)[0], planted.asked) == ({}, {}, {})
