"""Folders of image files, with or without one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data.labels import quoted

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
# Content decides, not the suffix; named here because Pillow's EPS reader would start Ghostscript on a renamed file.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
# Left behind by desktops and archivers; like hidden files, nobody means them as data.
LITTER = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
# Converting these to RGB clips at 255 instead of scaling, which would silently whiten the image.
DEEP_MODES = ("I", "F")


@dataclass(frozen=True, kw_only=True)
class FolderImages:
    """Image files below `root`, read one at a time; `ids` are their paths below it, in sorted order."""

    root: Path
    ids: tuple[str, ...]
    labels: Sequence[int] | None = None
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.resolve().name

    def content(self, index: int) -> bytes:
        """The file as stored."""
        with self._naming(index):
            return (self.root / self.ids[index]).read_bytes()

    def probe(self, index: int) -> None:
        """Read the header only; `DataError` names a file that is not an image we can use."""
        with self._naming(index), self._open(index):
            pass

    def load(self, index: int) -> Image.Image:
        """Decode to RGB; EXIF rotation is not applied, as in timm and torchvision."""
        with self._naming(index), self._open(index) as image:
            return image.convert("RGB")

    def _open(self, index: int) -> Image.Image:
        image = Image.open(self.root / self.ids[index], formats=FORMATS)
        if image.mode.startswith(DEEP_MODES):
            image.close()
            raise DataError("more than 8 bits per channel")
        return image

    @contextmanager
    def _naming(self, index: int) -> Iterator[None]:
        """Turn whatever goes wrong into a `DataError` that starts with the file's name."""
        try:
            yield
        except UnidentifiedImageError as error:
            raise DataError(f"{self.ids[index]} (not an image)") from error
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DataError(f"{self.ids[index]} ({reason})") from error


def open_folder(root: Path, *, labelled: bool) -> FolderImages:
    """List a folder; every file below it has to be an image, and every class has to have some."""
    if not labelled:
        ids = _images(root, "")
        if not ids:
            raise DataError(f"{root} holds no images; expected {', '.join(sorted(SUFFIXES))} files")
        return FolderImages(root=root, ids=ids)
    class_names = _class_names(root)
    members = [_images(root, f"{name}/") for name in class_names]
    empty = [name for name, ids in zip(class_names, members, strict=True) if not ids]
    if empty:
        raise DataError(f"{root}: class folder {quoted(empty)} holds no images; add some or remove it")
    return FolderImages(
        root=root,
        ids=tuple(name for ids in members for name in ids),
        labels=tuple(label for label, ids in enumerate(members) for _ in ids),
        class_names=class_names,
    )


def _class_names(root: Path) -> tuple[str, ...]:
    """Sub-folders in sorted order; notes beside them are fine, images are not."""
    entries = _entries(root)
    loose = sorted(entry.name for entry in entries if entry.is_file() and _is_image(entry.name))
    names = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    if not names:
        raise DataError(f"{root} has no sub-folders; labelled images need one sub-folder per class")
    if loose:
        raise DataError(f"{root}: images {quoted(loose)} lie outside the class sub-folders; move them into one")
    return names


def _images(root: Path, prefix: str) -> tuple[str, ...]:
    """Names below `root` of all images below `root/prefix`, sorted."""
    sizes = dict(_sizes(root / prefix, prefix, frozenset()))
    names = sorted(sizes)
    strangers = [name for name in names if not _is_image(name)]
    if strangers:
        raise DataError(f"{root}: not images: {quoted(strangers)}; remove them")
    hollow = [name for name in names if not sizes[name]]
    if hollow:
        raise DataError(f"{root}: empty files: {quoted(hollow)}; remove or replace them")
    return tuple(names)


def _sizes(folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[tuple[str, int]]:
    """Name and bytes of all files below, following links but never back into a folder we came from."""
    real = folder.resolve()
    if real in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _sizes(folder / entry.name, f"{prefix}{entry.name}/", above | {real})
        else:
            yield f"{prefix}{entry.name}", _size(entry)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError as error:
        raise DataError(f"{entry.path} cannot be read: {error.strerror}; remove or replace it") from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """A folder's entries without hidden files and litter; scandir knows files from folders without asking each."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check the path and its permissions") from error
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in LITTER]


def _is_image(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in SUFFIXES
