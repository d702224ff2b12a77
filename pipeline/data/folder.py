"""Folders of image files, with or without one sub-folder per class."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data.cures import instead_of_images, kind_of_file
from rexnet_export.pipeline.data.image_labels import read_image_labels
from rexnet_export.pipeline.data.labels import quoted

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}
)
# Content decides, not the suffix; named here because Pillow's EPS reader would start Ghostscript on a renamed file.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "AVIF", "TIFF", "PPM", "GIF")
# Left behind by desktops and archivers; like hidden files, nobody means them as data.
LITTER = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
# Converting these to RGB clips at 255 instead of scaling, which would silently whiten the image.
DEEP_MODES = ("I", "F")
DEEP = "more than 8 bits per channel: scale it to 8 bits as in training, such as `magick in.png -depth 8 out.png`"
# Parts of a data set, which people name instead of one of them.
PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval", "evaluation"})
LARGE = 16_000_000  # pixels; larger images are decoded one at a time, whatever the number of threads
_one_large = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class FolderImages:
    """Image files below `root`, read one at a time; `ids` are their paths below it, in sorted order.

    `remarks` are lines on what was not taken from the folder.
    """

    root: Path
    ids: tuple[str, ...]
    labels: Sequence[int] | None = None
    class_names: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.resolve().name

    def content(self, index: int) -> bytes:
        """The file as stored."""
        with self._naming(index):
            return self._path(index).read_bytes()

    def probe(self, index: int) -> None:
        """Decode all of it, as small as the format allows; `DataError` names a file that is not an image we can use."""
        with self._naming(index), self._open(index) as image, _in_turn(image):
            image.draft("RGB", (1, 1))  # JPEG alone: its data is read whole, but an eighth of the side computed
            image.load()

    def load(self, index: int) -> Image.Image:
        """Decode to RGB; EXIF rotation is not applied, as in timm and torchvision."""
        with self._naming(index), self._open(index) as image, _in_turn(image):
            return image.convert("RGB")

    def _path(self, index: int) -> Path:
        path = self.root / self.ids[index]
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise DataError("no regular file")
        return path

    def _open(self, index: int) -> Image.Image:
        """Read the header, which says what decoding would take."""
        image = Image.open(self._path(index), formats=FORMATS)
        try:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or image.width * image.height):
                raise DataError(f"{image.width:,} x {image.height:,} pixels: more than {Image.MAX_IMAGE_PIXELS:,}")
            if image.mode.startswith(DEEP_MODES):
                raise DataError(DEEP)
        except DataError:
            image.close()
            raise
        return image

    @contextmanager
    def _naming(self, index: int) -> Iterator[None]:
        """Turn whatever goes wrong into a `DataError` that starts with the file's name."""
        name = self.ids[index]
        try:
            yield
        except UnidentifiedImageError as error:
            path = self.root / name
            kind = kind_of_file(path) if path.stat().st_size else "an empty file"
            raise DataError(f"{name} ({kind or 'not an image'})") from error
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DataError(f"{name} ({' '.join(reason.split())})") from error


def _in_turn(image: Image.Image) -> threading.Lock | nullcontext[None]:
    """Memory for one large image at a time."""
    return _one_large if image.width * image.height > LARGE else nullcontext()


def open_folder(root: Path, *, labelled: bool, image_labels: Path | None = None, strict: bool = False) -> FolderImages:
    """List a folder's images, which have one sub-folder per class where labelled, or labels in the file given.

    Other files are counted and left out; `strict` refuses them.
    """
    if not labelled or image_labels is not None:
        ids, others = _images(root, "")
        if not ids:
            cure = instead_of_images(root) or f"expected {', '.join(sorted(SUFFIXES))} files"
            raise DataError(f"{root} holds no images; {cure}")
        remarks = _others(root, others, strict=strict)
        if image_labels is None:
            return FolderImages(root=root, ids=ids, remarks=remarks)
        return _with_labels(root, ids, image_labels, remarks)
    class_names = _class_names(root)
    listed = [_images(root, f"{name}/") for name in class_names]
    empty = [name for name, (ids, _) in zip(class_names, listed, strict=True) if not ids]
    if empty:
        raise DataError(f"{root}: class folder {quoted(empty)} holds no images; add some or remove it")
    return FolderImages(
        root=root,
        ids=tuple(name for ids, _ in listed for name in ids),
        labels=tuple(label for label, (ids, _) in enumerate(listed) for _ in ids),
        class_names=class_names,
        remarks=_others(root, [name for _, others in listed for name in others], strict=strict),
    )


def _with_labels(root: Path, ids: tuple[str, ...], path: Path, remarks: tuple[str, ...]) -> FolderImages:
    """The images that the list gives a label."""
    listed = read_image_labels(path, ids)
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
    return (f"{root}: {len(names):,} files are no images and are left out: {quoted(names)}",)


def _class_names(root: Path) -> tuple[str, ...]:
    """Sub-folders in sorted order; notes beside them are fine, images are not."""
    entries = _entries(root)
    loose = sorted(entry.name for entry in entries if entry.is_file() and is_image(entry.name))
    names = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    if not names:
        cure = "give --eval-labels FILE with `filename,label` lines" if loose else instead_of_images(root)
        also = f", or {cure}" if loose else f"; {cure}" if cure else ""
        raise DataError(f"{root} has no sub-folders; labelled images need one sub-folder per class{also}")
    parts = [name for name in names if name.lower() in PARTS]
    if len(parts) > 1 or parts == list(names):
        raise DataError(
            f"{root} holds {quoted(parts)}, which are parts of a data set, not classes; name one of them, such as "
            f"{root / parts[-1]}"
        )
    if len(names) == 1 and not loose and not any(entry.is_file() for entry in _entries(root / names[0])):
        raise DataError(f"{root} holds one folder of folders; name that: {root / names[0]}")
    if loose:
        raise DataError(f"{root}: images {quoted(loose)} lie outside the class sub-folders; move them into one")
    return names


def _images(root: Path, prefix: str) -> tuple[tuple[str, ...], list[str]]:
    """Names below `root` of all images below `root/prefix`, and of the other files there, sorted."""
    names = sorted(_files(root / prefix, prefix, frozenset()))
    return tuple(name for name in names if is_image(name)), [name for name in names if not is_image(name)]


def _files(folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[str]:
    """All files below, following links but never back into a folder we came from."""
    real = folder.resolve()
    if real in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
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


def is_image(name: str) -> bool:
    """Whether a file is called like an image."""
    return f".{name.rpartition('.')[2].lower()}" in SUFFIXES
