"""Running sessions on the same images, and what their logits say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.paired_statistics import lower_limit, sqnr_db, upper_limit
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import AtLeastOne, Drop, Fraction, Preprocess
from rexnet_export.pipeline.data.sources import ImageSource, batches

BATCH = 64
ERROR = 0.05  # of a limit

type Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 of an artifact and of the float reference on the same `n` labelled images; drops are fractions.

    The limits are one-sided: of 100 runs 95 lie above the lower one, and 95 below the upper one; of an emulated file,
    also where it is run on more images because the first ones did not show enough.
    """

    n: AtLeastOne
    top1: Fraction
    reference_top1: Fraction
    drop: Drop
    drop_lower_95: Drop
    drop_upper_95: Drop


def run_sessions(
    sessions: Mapping[str, Session],
    source: ImageSource,
    preprocess: Preprocess,
    indices: Sequence[int],
    progress: Progress,
) -> dict[str, Logits]:
    """Logits [n, classes] of every session, each image decoded once."""
    collected: dict[str, list[Logits]] = {name: [] for name in sessions}
    with progress.stage(running(len(sessions)), len(indices), "images") as bar:
        for images in batches(source, preprocess, indices, BATCH):
            for name, session in sessions.items():
                collected[name].append(finite(session.run(images), f"{name}: {session.executed_by}"))
            bar.advance(len(images))
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def running(networks: int) -> str:
    """What a stage is called that runs so many networks."""
    return "running the network" if networks == 1 else f"running {networks} networks"


def finite(logits: Logits, who: str) -> Logits:
    """The same; a `ConversionError` that says who gave them where one is not a finite number."""
    if not np.isfinite(logits).all():
        raise ConversionError(f"{who} gave logits that are not finite")
    return logits


def top1(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Fraction of images whose largest logit is their label's."""
    return float((logits.argmax(1) == labels).mean())


def accuracy(logits: Logits, reference: Logits, labels: NDArray[np.int64], looks: int = 1) -> Accuracy:
    """Accuracy of `logits` beside the reference's, paired by image.

    Where so many `looks` may be judged, all their limits together hold as often as one's would.
    """
    right, reference_right = logits.argmax(1) == labels, reference.argmax(1) == labels
    worse, better = int((reference_right & ~right).sum()), int((~reference_right & right).sum())
    n, confidence = len(labels), 1 - ERROR / looks
    return Accuracy(
        n=n,
        top1=float(right.mean()),
        reference_top1=float(reference_right.mean()),
        drop=(worse - better) / n,
        drop_lower_95=lower_limit(worse, better, n, confidence),
        drop_upper_95=upper_limit(worse, better, n, confidence),
    )


def agreement(logits: Logits, reference: Logits) -> float:
    """Fraction of images on which both choose the same class."""
    return float((logits.argmax(1) == reference.argmax(1)).mean())


def logit_sqnr_db(logits: Logits, reference: Logits) -> float:
    """SQNR of the logits against the reference's, over all images."""
    return sqnr_db(reference, logits)
