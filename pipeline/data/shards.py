"""WebDataset shards: plain tar files in which `key.jpg` and `key.cls` lie side by side.

Nothing is unpacked to disk: the headers are read once, an image's bytes when it is wanted.
"""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from rexnet_export.pipeline.core.errors import DataError, first_line
from rexnet_export.pipeline.data.cures import kind_of_file
from rexnet_export.pipeline.data.encoded import EncodedImages
from rexnet_export.pipeline.data.folder import is_image
from rexnet_export.pipeline.labels.class_names import quoted

LARGEST_IMAGE = 2**28
LARGEST_LABEL = 2**10
LARGEST_HEADER = 2**20  # of a long name or of pax records, which tarfile reads whole
MOST_MEMBERS = 10_000_000
CLASS = "cls"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Where a member's bytes lie."""

    shard: Path
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class ShardImages(EncodedImages):
    """Images inside tar files; `ids` are SHARD/KEY.SUFFIX."""

    place: Path
    pieces: Sequence[Piece]

    @property
    def name(self) -> str:
        """The shard's or the folder's name."""
        return self.place.resolve().name

    def stream(self, index: int) -> BinaryIO:
        """The member's bytes."""
        return io.BytesIO(_read(self.pieces[index]))


def open_shards(place: Path, shards: Sequence[Path], *, labelled: bool) -> ShardImages:
    """List the images of tar files, in their order; with `labelled` every one has a `.cls` of a number or a name."""
    ids: list[str] = []
    pieces: list[Piece] = []
    texts: list[str] = []
    others: list[str] = []
    bare: list[str] = []
    for shard in shards:
        for key, members in _samples(shard):
            images = [suffix for suffix in members if "." not in suffix and is_image(f"x.{suffix}")]
            others += [f"{key}.{suffix}" for suffix in members if suffix not in {CLASS, *images}]
            if len(images) > 1:
                raise DataError(f"{shard}: {key} has several images ({quoted(images)}); keep one")
            if not images:
                continue
            name = f"{shard.name}/{key}.{images[0]}"
            if labelled and CLASS not in members:
                bare.append(name)
                continue
            ids.append(name)
            pieces.append(_fitting(members[images[0]], name))
            texts += [_label(members[CLASS], name)] if labelled else []
    if not ids:
        why = f"none of its {len(bare):,} images has a .{CLASS}" if bare else "holds no images"
        raise DataError(
            f"{place} {why}; WebDataset shards hold KEY.jpg and KEY.{CLASS} side by side; unpack another tar (tar -xf)"
        )
    labels, class_names = _numbered(texts) if labelled else (None, None)
    return ShardImages(
        place=place,
        ids=tuple(ids),
        pieces=tuple(pieces),
        labels=labels,
        class_names=class_names,
        remarks=(
            *_counted(place, others, ("file is no image", "files are no images")),
            *_counted(place, bare, (f"image has no .{CLASS}", f"images have no .{CLASS}")),
        ),
    )


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, Piece]]]:
    """Members by key, as they follow one another: the key is the name up to the first dot behind its last slash."""
    found: dict[str, dict[str, Piece]] = {}
    for member in _members(shard):
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if not stem or not suffix:
            continue
        key = f"{folder}/{stem}" if folder else stem
        suffixes = found.setdefault(key, {})
        if suffix.lower() in suffixes:
            raise DataError(f"{shard}: {key}.{suffix} is there twice; make the shard again")
        suffixes[suffix.lower()] = Piece(shard=shard, offset=member.offset_data, size=member.size)
    yield from found.items()


def _members(shard: Path) -> Iterator[tarfile.TarInfo]:
    """Regular files of a tar; anything else but folders is refused."""
    try:
        with shard.open("rb") as stream, tarfile.open(fileobj=_Bounded(stream), mode="r:") as archive:
            for count in itertools.count(1):
                member = archive.next()
                if member is None:
                    return
                if count > MOST_MEMBERS:
                    raise DataError(f"{shard} has more than {MOST_MEMBERS:,} members; cut it into smaller shards")
                archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps every header it has read
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(f"{shard}: {member.name!r} is a link or a device, not a file; make the shard again")
                if ".." in PurePosixPath(member.name).parts:
                    raise DataError(f"{shard}: {member.name!r} leads out of the shard; make it again")
                yield member
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        kind = kind_of_file(shard)
        why = f"it is {kind}" if kind and "tar archive" not in kind else first_line(error)
        raise DataError(f"{shard} is no whole tar file ({why}); fetch it again") from error


class _Bounded(io.RawIOBase):
    """A file of which no header may claim to be large."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        if not 0 <= size <= LARGEST_HEADER:
            raise ValueError(f"a header of {size:,} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As a file's."""
        return self._stream.tell()


def _fitting(piece: Piece, name: str) -> Piece:
    if piece.size > LARGEST_IMAGE:
        raise DataError(f"{name} has {piece.size:,} bytes, more than an image has; make the shard again")
    return piece


def _read(piece: Piece) -> bytes:
    with piece.shard.open("rb") as stream:
        stream.seek(piece.offset)
        content = stream.read(piece.size)
    if len(content) < piece.size:
        raise DataError("the shard ends within it")
    return content


def _label(piece: Piece, name: str) -> str:
    if piece.size > LARGEST_LABEL:
        raise DataError(f"{name}: its .{CLASS} has {piece.size:,} bytes, and is no class; make the shard again")
    try:
        text = _read(piece).decode().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: its .{CLASS} is no text; make the shard again") from error
    if not text:
        raise DataError(f"{name}: its .{CLASS} is empty; make the shard again")
    return text


def _numbered(texts: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...] | None]:
    """Class numbers as they are; names by their sorted order."""
    if all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
        return tuple(map(int, texts)), None
    names = tuple(sorted(set(texts)))
    number = {name: index for index, name in enumerate(names)}
    return tuple(number[text] for text in texts), names


def _counted(place: Path, names: Sequence[str], what: tuple[str, str]) -> tuple[str, ...]:
    """A remark on these, if any; `what` they are, of one and of several."""
    said = f"1 {what[0]} and is" if len(names) == 1 else f"{len(names):,} {what[1]} and are"
    return (f"{place}: {said} left out: {quoted(names)}",) if names else ()
