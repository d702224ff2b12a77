"""The order of classes that only folder names tell: string order, as most loaders sort, or natural order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.paired_choice import paired
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Progress, counted
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource, batches, check_images, choose
from rexnet_export.pipeline.export.options import ORDERS, Options
from rexnet_export.pipeline.labels.class_names import in_natural_order, quoted
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.model.torch_session import open_reference

STRING, NATURAL = ORDERS
MOST, BATCH = 512, 32


def settle_order(
    names: Sequence[str],
    options: Options,
    network: ReXNet,
    source: ImageSource,
    preprocess: Preprocess,
    progress: Progress,
) -> tuple[tuple[str, ...], str]:
    """The classes in the network's order, and one line on why; `UsageError` where the network favours neither.

    `names` are the source's class names in string order, `source.labels` count in that order.
    """
    natural = in_natural_order(names)
    if natural == tuple(names):
        return natural, f"classes are the folder names of {source.name}, sorted: {quoted(names)}"
    asked = options.class_order
    if asked is not None:
        chosen = natural if asked == NATURAL else tuple(names)
        return chosen, f"classes are the folder names of {source.name} in {asked} order, as asked: {quoted(chosen)}"
    places = {STRING: range(len(names)), NATURAL: [natural.index(name) for name in names]}
    right = right_by(places, choose(source, MOST, options.seed), network, source, preprocess, options, progress)
    for order, by_order, other in ((NATURAL, natural, STRING), (STRING, tuple(names), NATURAL)):
        found = paired(right[other], right[order])
        if found.clear():
            return by_order, (
                f"classes are the folder names of {source.name} in {order} order ({quoted(by_order)}), not in {other} "
                f"order: the float network has {found}"
            )
    raise UsageError(
        f"the folder names of {source.name} sort in two ways, and the float network favours neither "
        f"({paired(right[STRING], right[NATURAL])}): give --class-order string for {quoted(names)}, --class-order "
        f"natural for {quoted(natural)}, or --labels FILE"
    )


def right_by[Order](
    places: Mapping[Order, Sequence[int]],
    asked: Sequence[int],
    network: ReXNet,
    source: ImageSource,
    preprocess: Preprocess,
    options: Options,
    progress: Progress,
) -> dict[Order, NDArray[np.bool_]]:
    """Which of the images `asked` are right by each order, which gives the network's class for each of the source's."""
    assert source.labels is not None
    indices = check_images(source, asked, options.max_bad_images or 0, progress).indices
    with progress.stage("trying both orders of classes", len(indices), "images") as bar:
        session = open_reference(network, preprocess)
        read = counted(batches(source, preprocess, indices, BATCH), bar)
        answers = np.concatenate([session.run(pixels).argmax(1) for pixels in read])
    labels = np.array([source.labels[index] for index in indices])
    return {order: answers == np.array(place)[labels] for order, place in places.items()}
