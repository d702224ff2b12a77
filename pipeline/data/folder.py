"""Folders of image files, with or without one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import RGB
from rexnet_export.pipeline.core.text import is_unicode
from rexnet_export.pipeline.data.cures import instead_of_images
from rexnet_export.pipeline.data.encoded import EncodedImages
from rexnet_export.pipeline.labels.class_names import quoted
from rexnet_export.pipeline.labels.image_labels import read_image_labels

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".avif", ".heic", ".heif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".gif"),
    }
)
ARRAYS = frozenset({".npy"})
# Left behind by desktops and archivers; like hidden files, nobody means them as data.
LITTER = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
# Parts of a data set, which people name instead of one of them.
# What images are for: to train on, to judge a training by, or any that a list may give their labels.
type Role = Literal["training", "evaluation", "listed"]
PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval", "evaluation"})


@dataclass(frozen=True, kw_only=True)
class FolderImages(EncodedImages):
    """Image files below `root`; `ids` are their paths below it, in sorted order."""

    root: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.resolve().name

    def stream(self, index: int) -> BinaryIO:
        """The file."""
        path = self.root / self.ids[index]
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise DataError("no regular file")
        return path.open("rb")


def open_folder(
    root: Path,
    *,
    labelled: bool,
    image_labels: Path | None = None,
    strict: bool = False,
    channels: int = RGB,
    role: Role = "listed",
) -> FolderImages:
    """List a folder's images, which have one sub-folder per class where labelled, or labels in the file given.

    Other files are counted and left out; `strict` refuses them. Images of other than three `channels` may be arrays.
    """
    suffixes = SUFFIXES if channels == RGB else SUFFIXES | ARRAYS
    if not labelled or image_labels is not None:
        ids, others = _images(root, "", suffixes)
        if not ids:
            cure = instead_of_images(root) or f"expected {', '.join(sorted(suffixes))} files"
            raise DataError(f"{root} holds no images; {cure}")
        remarks = _others(root, others, strict=strict)
        if image_labels is None:
            return FolderImages(root=root, ids=ids, remarks=remarks, channels=channels)
        return replace(_with_labels(root, ids, image_labels, remarks), channels=channels)
    class_names = _class_names(root, suffixes, role)
    listed = [_images(root, f"{name}/", suffixes) for name in class_names]
    empty = [name for name, (ids, _) in zip(class_names, listed, strict=True) if not ids]
    if empty:
        raise DataError(f"{root}: class folder {quoted(empty)} holds no images; add some or remove it")
    return FolderImages(
        root=root,
        ids=tuple(name for ids, _ in listed for name in ids),
        labels=tuple(label for label, (ids, _) in enumerate(listed) for _ in ids),
        class_names=class_names,
        remarks=_others(root, [name for _, others in listed for name in others], strict=strict),
        channels=channels,
    )


def _with_labels(root: Path, ids: tuple[str, ...], path: Path, remarks: tuple[str, ...]) -> FolderImages:
    """The images that the list gives a label."""
    listed = read_image_labels(path, ids)
    elsewhere = [
        name
        for name, label in listed.labels.items()
        if (folder := name.partition("/")[0]) != label and folder in listed.classes
    ]
    if elsewhere:
        shown = f"'{elsewhere[0]}' is {quoted([listed.labels[elsewhere[0]]])} there"
        remarks += (f"{path.name} gives {len(elsewhere):,} images another class than their folder's name: {shown}",)
    number = {name: index for index, name in enumerate(listed.classes)}
    ids = tuple(name for name in ids if name in listed.labels)
    return FolderImages(
        root=root,
        ids=ids,
        labels=tuple(number[listed.labels[name]] for name in ids),
        class_names=listed.classes,
        remarks=(*remarks, *listed.remarks),
    )


def _others(root: Path, names: Sequence[str], *, strict: bool) -> tuple[str, ...]:
    if not names:
        return ()
    if strict:
        raise DataError(f"{root}: not images: {quoted(names)}; remove them, or leave --strict out")
    what = "1 file is no image and is" if len(names) == 1 else f"{len(names):,} files are no images and are"
    return (f"{root}: {what} left out: {quoted(names)}",)


def _class_names(root: Path, suffixes: frozenset[str], role: Role) -> tuple[str, ...]:
    """Sub-folders in sorted order; notes beside them are fine, images are not."""
    entries = _entries(root)
    loose = sorted(entry.name for entry in entries if not _is_folder(entry) and is_image(entry.name, suffixes))
    names = tuple(sorted(entry.name for entry in entries if _is_folder(entry)))
    if not names:
        cure = "give --eval-labels FILE with `filename,label` lines" if loose else instead_of_images(root)
        if loose and role != "listed":
            cure = None
        also = f", or {cure}" if loose and cure else f"; {cure}" if cure else ""
        raise DataError(f"{root} has no sub-folders; labelled images need one sub-folder per class{also}")
    if strange := [name for name in names if not is_unicode(name)]:
        raise DataError(
            f"{root}: the name of class folder {quoted(strange)} is no UTF-8, as every file's labels are; rename it"
        )
    parts = [name for name in names if name.lower() in PARTS]
    if len(parts) > 1 or parts == list(names):
        fit = [name for name in parts if name.lower().startswith("train") == (role == "training")]
        such = f", such as {root / fit[-1]}" if fit else ""
        raise DataError(
            f"{root} holds {quoted(parts)}, which are parts of a data set, not classes; name one of them{such}"
        )
    if len(names) == 1 and not loose and all(map(_is_folder, _entries(root / names[0]))):
        raise DataError(f"{root} holds one folder of folders; name that: {root / names[0]}")
    if loose:
        raise DataError(f"{root}: images {quoted(loose)} lie outside the class sub-folders; move them into one")
    return names


def _images(root: Path, prefix: str, suffixes: frozenset[str]) -> tuple[tuple[str, ...], list[str]]:
    """Names below `root` of all images below `root/prefix`, and of the other files there, sorted."""
    names = sorted(_files(root / prefix, prefix, frozenset()))
    images = tuple(name for name in names if is_image(name, suffixes))
    return images, [name for name in names if not is_image(name, suffixes)]


def _files(folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[str]:
    """All files below, following links but never back into a folder we came from."""
    real = folder.resolve()
    if real in above:
        return
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _files(folder / entry.name, f"{prefix}{entry.name}/", above | {real})
        else:
            yield f"{prefix}{entry.name}"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """A folder's entries without hidden files and litter; scandir knows files from folders without asking each."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check the path and its permissions") from error
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in LITTER]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """What leads nowhere, as a link to itself, is none: opening it says what is wrong."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_image(name: str, suffixes: frozenset[str] = SUFFIXES) -> bool:
    """Whether a file is called like an image."""
    return f".{name.rpartition('.')[2].lower()}" in suffixes
