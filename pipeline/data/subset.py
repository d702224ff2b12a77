"""Some images of a source, as a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.data.decode import Picture
from rexnet_export.pipeline.data.sources import ImageSource, check_images, choose, remarks


@dataclass(frozen=True, kw_only=True)
class Subset:
    """The images of `source` with these numbers, in this order."""

    source: ImageSource
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def ids(self) -> Sequence[str]:
        """The chosen images' ids."""
        return [self.source.ids[index] for index in self.indices]

    @property
    def labels(self) -> Sequence[int] | None:
        """The chosen images' labels."""
        labels = self.source.labels
        return None if labels is None else [labels[index] for index in self.indices]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The source's class names."""
        return self.source.class_names

    def content(self, index: int) -> bytes:
        """The source's stored image."""
        return self.source.content(self.indices[index])

    def probe(self, index: int) -> None:
        """The source's look."""
        self.source.probe(self.indices[index])

    def load(self, index: int) -> Picture:
        """The source's image."""
        return self.source.load(self.indices[index])


def held_out(source: ImageSource, share: float, seed: int) -> tuple[ImageSource, ImageSource]:
    """All images but a share of every class, and that share."""
    order = choose(source, len(source), seed)
    count = max(1, round(share * len(source)))
    first, last = tuple(sorted(order[count:])), tuple(sorted(order[:count]))
    return Subset(source=source, indices=first), Subset(source=source, indices=last)


def usable(source: ImageSource, most_bad: int, progress: Progress) -> ImageSource:
    """The source without images that cannot be decoded, at most `most_bad`; what was left out is said."""
    checked = check_images(source, range(len(source)), most_bad, progress)
    for line in (*remarks(source), *([checked.remark] if checked.remark else [])):
        progress.note(line)
    return Subset(source=source, indices=checked.indices) if len(checked.indices) < len(source) else source


def some(source: ImageSource, count: int | None, seed: int) -> ImageSource:
    """Up to `count` images, classes in proportion; all of them where no number is given."""
    if count is None or count >= len(source):
        return source
    return Subset(source=source, indices=tuple(choose(source, count, seed)))
