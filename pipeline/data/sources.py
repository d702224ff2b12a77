"""Images as the pipeline sees them: numbered, decoded on demand, in parallel, in order, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.progress import Progress, Silent
from rexnet_export.pipeline.core.records import RGB, Preprocess
from rexnet_export.pipeline.data.cures import kind_of_file
from rexnet_export.pipeline.data.decode import Picture
from rexnet_export.pipeline.data.encoded import EncodedImages
from rexnet_export.pipeline.data.folder import Role, open_folder
from rexnet_export.pipeline.data.idx import IdxImages, idx_images, is_idx, open_idx
from rexnet_export.pipeline.data.packed import is_packed, open_packed
from rexnet_export.pipeline.data.preprocess import resize_and_crop
from rexnet_export.pipeline.labels.class_names import class_indices, listed, quoted
from rexnet_export.pipeline.machine.environment import usable_cores

type Split = Literal["calibration", "evaluation"]
# Decoding is C code without the interpreter lock; more threads than this only fight over the disk.
MOST_WORKERS = 16
MISSING = "does not exist"
NAMED_FILES = 50  # of images that cannot be used, in one message


class ImageSource(Protocol):
    """Numbered images of one data set."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def ids(self) -> Sequence[str]:
        """A name for each image, unique within the source."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Class index of each image, or None for unlabelled images."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the class indices mean, where the source knows."""

    def __len__(self) -> int: ...

    def content(self, index: int) -> bytes:
        """The image as stored, for digests."""

    def probe(self, index: int) -> None:
        """Look at all of it, without its pixels; `DataError` names the image when it cannot be used."""

    def load(self, index: int) -> Picture:
        """The image, in RGB where it is a photo; `DataError` names it when it cannot be decoded."""


@runtime_checkable
class Prepares(Protocol):
    """A source that knows what becomes of its images."""

    def prepared_pixels(self, index: int, preprocess: Preprocess) -> NDArray[np.uint8]:
        """What `pixels_of` would give."""


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """All of another source but its labels, which are for those to say that wrap it."""

    source: ImageSource

    def __len__(self) -> int:
        return len(self.source)

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def ids(self) -> Sequence[str]:
        """The source's ids."""
        return self.source.ids

    def content(self, index: int) -> bytes:
        """The source's stored image."""
        return self.source.content(index)

    def probe(self, index: int) -> None:
        """The source's look."""
        self.source.probe(index)

    def load(self, index: int) -> Picture:
        """The source's image."""
        return self.source.load(index)


@dataclass(frozen=True, kw_only=True)
class Relabelled(Wrapped):
    """A source whose labels are a model's class indices."""

    labels: tuple[int, ...]
    class_names: tuple[str, ...]


def open_source(
    path: Path,
    labelled: bool,  # noqa: FBT001
    *,
    image_labels: Path | None = None,
    strict: bool = False,
    channels: int = RGB,
    role: Role = "listed",
) -> ImageSource:
    """A folder of images (one sub-folder per class when labelled), an IDX file or a folder with one, WebDataset shards,
    or the tables of a data set.

    `image_labels` is a list of labels for images in one folder; `strict` refuses files that are no images; `channels`
    is how many every image has, three of a photo; `role` says what a refusal may suggest.
    """
    if path.is_file() and is_idx(path):
        return with_channels(open_idx(path, labelled=labelled), channels)
    if is_packed(path):
        if image_labels is not None:
            raise DataError(f"{path} brings its labels; leave --eval-labels {image_labels} out")
        return with_channels(open_packed(path, labelled=labelled), channels)
    if not path.is_dir():
        raise _no_data(path, _no_folder(path, role) if path.exists() else MISSING)
    idx = sorted(entry for entry in path.glob("*ubyte*") if is_idx(entry))
    if len(idx) > 1:
        raise DataError(f"{path} holds several IDX image files ({quoted([entry.name for entry in idx])}); name one")
    if idx:
        return with_channels(open_idx(idx[0], labelled=labelled), channels)
    return open_folder(path, labelled=labelled, image_labels=image_labels, strict=strict, channels=channels, role=role)


def require_there(path: Path) -> None:
    """What `open_source` would refuse first, without reading anything: a path where nothing is."""
    if not os.path.exists(path):  # noqa: PTH110 - of any length
        raise _no_data(path, MISSING)


def _no_data(path: Path, problem: str) -> DataError:
    return DataError(f"data {path} {problem}; name a folder of images, shards, tables or an idx3-ubyte file")


def with_channels(source: ImageSource, channels: int) -> ImageSource:
    """The same images, each with so many channels; `DataError` where they are photos or greys and cannot have them."""
    if channels == RGB:
        return source
    if isinstance(source, EncodedImages):
        return replace(source, channels=channels)
    raise DataError(
        f"{source.name} holds grey images, and the network takes {channels} channels: give a folder of uint8 arrays "
        f"[H, W, {channels}] (.npy), or of TIFF files with {channels} grey pages"
    )


def _no_folder(path: Path, role: Role) -> str:
    if kind := kind_of_file(path) if path.is_file() else None:
        return f"is {kind}"
    if path.suffix.lower() in {".csv", ".tsv", ".json"}:
        how = " as --eval-data and the list as --eval-labels" if role == "listed" else ", one sub-folder per class"
        return f"is a list; give the images' folder{how}"
    return "is no folder"


def remarks(source: ImageSource) -> tuple[str, ...]:
    """Lines on what was not taken from the folder that a source is made of."""
    if isinstance(source, EncodedImages | IdxImages):
        return source.remarks
    inner: ImageSource | None = getattr(source, "source", None)
    return () if inner is None else remarks(inner)


def bundled(split: Split) -> ImageSource:
    """The Fashion-MNIST images that ship with the package (see `assets/README.md`)."""
    assets = files("rexnet_export.assets")
    names = assets.joinpath("labels.txt").read_text(encoding="utf-8").splitlines()
    return idx_images(
        assets.joinpath(f"{split}-images.idx3-ubyte.gz").read_bytes(),
        assets.joinpath(f"{split}-labels.idx1-ubyte.gz").read_bytes(),
        name=f"fashion-mnist-{split}",
        class_names=tuple(names),
    )


def match_labels(source: ImageSource, labels: Sequence[str]) -> ImageSource:
    """The same images, their labels counted in the model's order; see `labels.class_indices` for the rules."""
    if source.labels is None:
        raise DataError(f"{source.name} has no labels; accuracy needs one sub-folder per class")
    if source.class_names is None:
        indices = list(range(len(labels)))
        if max(source.labels) >= len(labels):
            raise DataError(f"{source.name} has label {max(source.labels)} but the model knows {len(labels)} classes")
    else:
        indices = class_indices(source.class_names, labels, source.name)
    return Relabelled(source=source, labels=tuple(indices[label] for label in source.labels), class_names=tuple(labels))


def choose(source: ImageSource, count: int, seed: int) -> list[int]:
    """Up to `count` image numbers without repetition, classes in proportion, the same for the same seed.

    A smaller choice is the beginning of a larger one, so every prefix is in proportion too: the image of rank r
    in its shuffled class of n comes at (r + 1/2) / n, ties in random order.
    """
    random = np.random.default_rng(seed)
    labels = np.zeros(len(source), np.int64) if source.labels is None else np.asarray(source.labels, np.int64)
    shuffled = np.lexsort((random.random(len(labels)), labels))
    _, starts, sizes = np.unique(labels[shuffled], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(starts, sizes)
    position = (rank + 0.5) / np.repeat(sizes, sizes)
    order = shuffled[np.lexsort((random.random(len(labels)), position))]
    return [int(index) for index in order[:count]]


def training_images(
    data: Path | None, eval_data: Path | None, labels: tuple[str, ...] | None, *, strict: bool = False
) -> tuple[ImageSource, ImageSource, tuple[str, ...]]:
    """Training and evaluation images, both labelled in the order of the class names, which they may decide.

    Without folders they are the bundled sample's.
    """
    if (data is None) != (eval_data is None):
        raise UsageError("--data and --eval-data go together: give both, or neither for the bundled sample")
    if data is None or eval_data is None:
        training, evaluation = bundled("calibration"), bundled("evaluation")
    else:
        training = open_source(data, labelled=True, strict=strict, role="training")
        evaluation = open_source(eval_data, labelled=True, strict=strict, role="evaluation")
    labels = labels or training.class_names
    if labels is None:
        labels = tuple(str(index) for index in range(max(training.labels or [0]) + 1))
    return match_labels(training, labels), match_labels(evaluation, labels), labels


def images_sha256(source: ImageSource, indices: Iterable[int]) -> str:
    """Digest of the chosen images' ids and stored content, in order."""
    digest = hashlib.sha256()
    for index in indices:
        line = f"{source.ids[index]}\0{hashlib.sha256(source.content(index)).hexdigest()}\n"
        digest.update(line.encode(errors="surrogateescape"))  # a file's name may be no UTF-8
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The images that can be used, in order, and one line on those that cannot."""

    indices: tuple[int, ...]
    remark: str | None


def check_images(
    source: ImageSource, indices: Sequence[int], most_bad: int = 0, progress: Progress | None = None
) -> Checked:
    """Look at all of the chosen images before hours of work depend on them, on all cores.

    `DataError` names every one that cannot be used where there are more than `most_bad`, or no others.
    """
    errors: dict[int, str] = {}
    with _pool() as pool, (progress or Silent()).stage("checking images", len(indices), "images") as bar:
        for index, error in zip(indices, pool.map(lambda index: _failure(source, index), indices), strict=True):
            if error:
                errors[index] = error
            bar.advance()
    if not errors:
        return Checked(indices=tuple(indices), remark=None)
    told = f"{source.name}: {len(errors):,} of {len(indices):,} images unusable"
    named = listed(list(errors.values()), NAMED_FILES)
    if len(errors) > most_bad or len(errors) == len(indices):
        raise DataError(f"{told}: {named}; replace or remove them, or leave out up to N with --max-bad-images N")
    usable = tuple(index for index in indices if index not in errors)
    return Checked(indices=usable, remark=f"{told} and left out: {named}")


def batches(
    source: ImageSource, preprocess: Preprocess, indices: Sequence[int], batch: int
) -> Iterator[NDArray[np.uint8]]:
    """The chosen images in order, as uint8 [n, H, W, C] with n = `batch` except in the last.

    Images are decoded on all cores, at most two batches ahead of the reader, so memory does not grow with the
    number of images. Undecodable images are collected over what is already being decoded, then named together.
    """
    ahead = 2 * batch
    with closing(attempts(source, preprocess, indices, ahead)) as each:
        while ready := list(islice(each, batch)):
            if any(isinstance(one, DataError) for one in ready):
                begun = [*ready, *islice(each, ahead)]
                raise _unusable(source, [str(one) for one in begun if isinstance(one, DataError)], len(begun))
            yield np.stack([one for one in ready if not isinstance(one, DataError)])


def attempts(
    source: ImageSource, preprocess: Preprocess, indices: Iterable[int], ahead: int
) -> Generator[NDArray[np.uint8] | DataError]:
    """Every chosen image in order, as uint8 [H, W, C], or why it cannot be used; `ahead` of the reader are decoded."""
    remaining = iter(indices)
    pool = _pool()
    pending: deque[Future[NDArray[np.uint8]]] = deque()

    def refill(length: int) -> None:
        pending.extend(pool.submit(_pixels, source, preprocess, index) for index in islice(remaining, length))

    try:
        refill(ahead)
        while pending:
            one = pending.popleft()
            refill(1)
            failure = one.exception()
            yield failure if isinstance(failure, DataError) else one.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(usable_cores(), MOST_WORKERS), thread_name_prefix="images")


def _pixels(source: ImageSource, preprocess: Preprocess, index: int) -> NDArray[np.uint8]:
    if isinstance(source, Prepares):
        return source.prepared_pixels(index, preprocess)
    return pixels_of(source, preprocess, index)


def pixels_of(source: ImageSource, preprocess: Preprocess, index: int) -> NDArray[np.uint8]:
    """One image decoded, resized and cropped, uint8 [S, S, 3]; `DataError` names it where that cannot be done."""
    image = source.load(index)
    try:
        return resize_and_crop(image, preprocess)
    except DataError as error:
        raise DataError(f"{source.ids[index]} ({error})") from error


def _failure(source: ImageSource, index: int) -> str | None:
    try:
        source.probe(index)
    except DataError as error:
        return str(error)
    return None


def _unusable(source: ImageSource, errors: Sequence[str], read: int) -> DataError:
    named = listed(errors, NAMED_FILES)
    return DataError(f"{source.name}: {len(errors)} of {read} images unusable: {named}; replace or remove them")
