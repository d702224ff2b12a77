"""Images as files have them: numbered, named, and decoded on demand, wherever their bytes come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from rexnet_export.pipeline.core.records import RGB
from rexnet_export.pipeline.data.decode import Picture, decode, naming, probe


@dataclass(frozen=True, kw_only=True)
class EncodedImages(ABC):
    """Images whose bytes `stream` opens; `ids` name them, `remarks` are lines on what was not taken.

    `channels` is how many each has: three are a photo's.
    """

    ids: Sequence[str]
    labels: Sequence[int] | None = None
    class_names: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()
    channels: int = RGB

    @property
    @abstractmethod
    def name(self) -> str:
        """What reports call the source."""

    @abstractmethod
    def stream(self, index: int) -> BinaryIO:
        """The image as stored, open for reading."""

    def __len__(self) -> int:
        return len(self.ids)

    def content(self, index: int) -> bytes:
        """The image as stored."""
        with naming(self.ids[index]), self.stream(index) as stream:
            return stream.read()

    def probe(self, index: int) -> None:
        """Look at all of it; `DataError` names an image that cannot be used."""
        with naming(self.ids[index]), self.stream(index) as stream:
            probe(stream, self.channels)

    def load(self, index: int) -> Picture:
        """The image; `DataError` names it when it cannot be decoded."""
        with naming(self.ids[index]), self.stream(index) as stream:
            return decode(stream, self.channels)
