"""A trained network for other classes: its head replaced, everything below it as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data.sources import ImageSource, match_labels, open_source, training_images
from rexnet_export.pipeline.data.subset import held_out
from rexnet_export.pipeline.model.head import OTHERS
from rexnet_export.pipeline.model.rexnet import ReXNet

HELD_OUT = 0.2  # of the images of each class, where no evaluation images are given
HEADS = ("head.fc.", OTHERS)


def with_new_head(network: ReXNet, classes: int) -> ReXNet:
    """The network with a fresh classifier; torch's random numbers decide its first weights."""
    changed = ReXNet(replace(network.spec, classes=classes, hidden=(), activation="none", others=()))
    state = {name: values for name, values in network.state_dict().items() if not name.startswith(HEADS)}
    changed.load_state_dict(changed.state_dict() | state)
    return changed


def transfer_images(
    data: Path | None,
    eval_data: Path | None,
    labels: tuple[str, ...] | None,
    classes: int | None,
    seed: int,
    *,
    strict: bool = False,
) -> tuple[ImageSource, ImageSource, tuple[str, ...]]:
    """Training and evaluation images of the new classes, as `training_images` gives them, and how many there must be.

    Without `eval_data` a fifth of every class is held out of `data`.
    """
    if data is not None and eval_data is None:
        source = open_source(data, labelled=True, strict=strict, role="training")
        labels = labels or source.class_names or tuple(str(index) for index in range(max(source.labels or [0]) + 1))
        training, evaluation = held_out(match_labels(source, labels), HELD_OUT, seed)
    else:
        training, evaluation, labels = training_images(data, eval_data, labels, strict=strict)
    if classes is not None and classes != len(labels):
        raise DataError(f"--classes {classes}, but {training.name} has {len(labels)}: correct one of them")
    return training, evaluation, labels
