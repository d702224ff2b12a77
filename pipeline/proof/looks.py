"""Emulated files, and the graphs that artifacts were made from, are judged on fewer images where these show enough.

They are witnesses: no device runs them as they are run here, and most of a proof's time would be theirs. Two looks at
most: at images that were chosen before anything ran, and at all. Each has half of the error that one look would have,
so that both together err no more often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rexnet_export.pipeline.accuracy import evaluate
from rexnet_export.pipeline.accuracy.compare import TensorComparison
from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.accuracy.places import Places
from rexnet_export.pipeline.core.outputs import LOGITS, alike, answer
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import choose
from rexnet_export.pipeline.proof.run_networks import Networks, Run, RunImages

FIRST_LOOK = 2000  # images: enough in 94 of 100 cases where one in 400 is right in one network alone; 1,000 in 58
LOOKS = 2


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The images of the first look [k], as places among all, and the drop (fraction) that it has to stay below."""

    first: Places
    bound: float


def looks(images: Images, card: ModelCard, bound: float, seed: int) -> Looks | None:
    """What witnesses are judged by; None where they see all images at once.

    That is where there are no more than a first look has, or nothing would say that it is enough: without labels there
    is no limit of a drop, and outputs beside the logits have none. The images are chosen as evaluation images are, so
    classes are in proportion, and bundles for devices have images of the same choice.
    """
    if len(images.indices) <= FIRST_LOOK or images.labels is None or not card.labels or card.heads:
        return None
    place = {index: place for place, index in enumerate(images.indices)}
    order = [place[index] for index in choose(images.source, len(images.source), seed) if index in place]
    return Looks(first=np.sort(np.array(order[:FIRST_LOOK], np.int64)), bound=bound)


def run_looks(
    networks: Networks,
    reference: Logits,
    images: Images,
    preprocess: Preprocess,
    progress: Progress,
    run: RunImages,
    looks: Looks | None,
) -> dict[str, Run]:
    """Run networks on the first look's images, and on the others those whose drop these do not show to be small; on all
    at once where there are no looks.

    `reference` [n, classes] is the float network's logits on all images.
    """
    answered = partial(_answers, images=images, preprocess=preprocess, progress=progress, run=run)
    if looks is None:
        given = answered(networks, np.arange(len(reference)))
        return {name: _run(batches, reference, None, 1) for name, batches in given.items()}
    first = {name: _joined(batches) for name, batches in answered(networks, looks.first).items()}
    found = {name: _run([given], reference[looks.first], looks.first, LOOKS) for name, given in first.items()}
    unsure = {
        name: network for name, network in networks.items() if not _is_shown(found[name], images, looks, reference)
    }
    if unsure:
        others = np.setdiff1d(np.arange(len(reference)), looks.first, assume_unique=True)
        order = np.argsort(np.concatenate([looks.first, others]))
        for name, batches in answered(unsure, others).items():
            both = _joined([first[name], *batches])
            whole = {output: values[order] for output, values in both.items()}
            found[name] = _run([whole], reference, None, LOOKS)
    return found


def _answers(
    networks: Networks, places: Places, images: Images, preprocess: Preprocess, progress: Progress, run: RunImages
) -> dict[str, list[Mapping[str, Logits]]]:
    """What each network gives for the images at these places, batch by batch."""
    chosen = replace(images, indices=tuple(images.indices[place] for place in places), labels=None)
    parts: dict[str, list[Mapping[str, Logits]]] = {name: [] for name in networks}
    if not networks:
        return parts
    with progress.stage("running emulated files and the graphs between", len(networks) * len(places), "images") as bar:
        for name, outputs in run(networks, chosen, preprocess):
            given = evaluate.finite(answer(outputs), f"{name}: {networks[name].executed_by}")
            parts[name].append(outputs)
            bar.advance(len(given), name)
    return parts


def _joined(batches: Sequence[Mapping[str, Logits]]) -> dict[str, Logits]:
    """Output by output."""
    return {output: np.concatenate([each[output] for each in batches]) for output in batches[0]}


def _run(batches: Sequence[Mapping[str, Logits]], reference: Logits, places: Places | None, looks: int) -> Run:
    """What a network gave, beside the reference's logits on the same images."""
    comparison, answers = TensorComparison({}), [answer(outputs) for outputs in batches]
    ends = np.cumsum([len(each) for each in answers])[:-1]
    for outputs, expected in zip(batches, np.split(reference, ends), strict=True):
        comparison.add(alike({LOGITS: expected}, outputs), outputs)
    tensors = comparison.result().tensors
    return Run(answers=np.concatenate(answers), outputs=tensors, places=places, looks=looks)


def _is_shown(run: Run, images: Images, looks: Looks, reference: Logits) -> bool:
    """Whether a first look is enough."""
    assert images.labels is not None
    seen = evaluate.accuracy(run.answers, reference[looks.first], images.labels[looks.first], run.looks)
    return seen.drop_upper_95 < looks.bound
