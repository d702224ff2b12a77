"""Images whose pixels are prepared once, whoever needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.encoded import EncodedImages
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import ImageSource, Wrapped, pixels_of
from rexnet_export.pipeline.machine.shared_work import SharedWork


@dataclass(frozen=True, kw_only=True)
class PreparedImages(Wrapped):
    """A source whose images are decoded and resized once for all who share `work`; else it is the source."""

    work: SharedWork

    @property
    def labels(self) -> Sequence[int] | None:
        """The source's labels."""
        return self.source.labels

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The source's names."""
        return self.source.class_names

    def prepared_pixels(self, index: int, preprocess: Preprocess) -> NDArray[np.uint8]:
        """uint8 [S, S, C]: by the digest of the stored image, and all that becomes of it before normalisation."""
        stored = hashlib.sha256(self.content(index)).hexdigest()
        geometry = replace(preprocess, std=(1.0,) * preprocess.channels)  # the mean is the colour of borders
        return self.work.often(["pixels", stored, repr(geometry)], lambda: pixels_of(self.source, preprocess, index))


def prepared(images: Images, work: SharedWork) -> Images:
    """The images, prepared once where they have to be decoded; plain arrays are prepared as fast as they are read."""
    source: ImageSource | None = images.source
    while source is not None and not isinstance(source, EncodedImages):
        source = getattr(source, "source", None)
    return images if source is None else replace(images, source=PreparedImages(source=images.source, work=work))
