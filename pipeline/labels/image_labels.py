"""Labels of images in one folder, from a list: `filename,label`, or one label per image in the order of names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.labels.class_names import WORDNET_ID, in_natural_order, quoted
from rexnet_export.pipeline.labels.label_files import read_text, rows_of

FILE_HEADERS = frozenset({"filename", "file", "file_name", "image", "image_id", "imageid", "path", "filepath", "id"})
LABEL_HEADERS = frozenset({"label", "class", "class_name", "target", "predictionstring", "category", "synset", "wnid"})
ILSVRC_IMAGE = re.compile(r"ILSVRC2012_val_\d{8}\.\w+")
LARGEST_METADATA = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class LabelList:
    """The label of each image that has one, by name; `classes` are all names there are, where the list knows more."""

    labels: dict[str, str]
    classes: tuple[str, ...]
    remarks: tuple[str, ...]


def read_image_labels(path: Path, names: Sequence[str]) -> LabelList:
    """Labels for images with these names (sorted, relative to their folder); every mismatch is said or refused."""
    rows = _rows(path)
    if rows and len(rows[0]) > 1:
        return _by_name(path, rows, names)
    values = [row[0] for row in rows]
    if len(values) == len(names) + 1 and values[0].lower() in LABEL_HEADERS:
        values = values[1:]
    if len(values) != len(names):
        raise DataError(
            f"labels {path} has {len(values)} lines for {len(names)} images; write `filename,label` lines, or one "
            "label for each image in the order of their names"
        )
    if all(value.isdecimal() for value in values) and all(ILSVRC_IMAGE.fullmatch(_base(name)) for name in names):
        synsets = _devkit(path)
        values = [synsets[int(value)] for value in values if int(value) in synsets]
        if len(values) != len(names):
            raise DataError(f"labels {path} has numbers that meta.mat does not know; fetch the devkit again")
        return LabelList(
            labels=dict(zip(names, values, strict=True)), classes=tuple(sorted(synsets.values())), remarks=()
        )
    natural = in_natural_order(names)
    by_name, by_number = (dict(zip(order, map(_label, values), strict=True)) for order in (names, natural))
    if by_name != by_number:
        raise DataError(
            f"labels {path} go by the order of the images, whose names sort in two ways ({quoted(names)}; or "
            f"{quoted(natural)}); write `filename,label` lines"
        )
    return _listed(by_name, ())


def _rows(path: Path) -> list[list[str]]:
    """Cells; a list without commas, semicolons or tabs may part name and number by a space, as Caffe's does."""
    text = read_text(path, "labels")
    first = text.partition("\n")[0]
    if any(sign in first for sign in ",;\t"):
        return rows_of(text, f"labels {path}")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    return pairs if all(len(pair) == 2 and "." in pair[0] for pair in pairs) else [[line] for line in lines]


def _by_name(path: Path, rows: list[list[str]], names: Sequence[str]) -> LabelList:
    known = _spellings(names)
    headers = [cell.lower() for cell in rows[0]]
    hits = [sum(row[column] in known for row in rows) for column in range(len(headers))]
    file = max(range(len(headers)), key=hits.__getitem__)
    if not hits[file]:
        raise DataError(
            f"labels {path}: no column names one of the {len(names)} images ({quoted(names)}); write `filename,label`"
        )
    others = [column for column in range(len(headers)) if column != file]
    named = [column for column in others if headers[column] in LABEL_HEADERS]
    if len(named or others) != 1:
        raise DataError(f"labels {path}: columns {quoted(rows[0])}; name the one with the classes `label`")
    (label,) = named or others
    body = rows[1:] if rows[0][file] not in known and headers[file] in FILE_HEADERS else rows
    body = [row for row in body if row[label]]
    labels = {known[row[file]]: _label(row[label]) for row in body if row[file] in known}
    absent = [row[file] for row in body if row[file] not in known]
    bare = [name for name in names if name not in labels]
    if len({known[row[file]] for row in body if row[file] in known}) < len(body) - len(absent):
        raise DataError(f"labels {path} names an image twice; leave one line for each")
    remarks = []
    if absent:
        remarks.append(f"{path.name}: {len(absent):,} of its images are not in the folder: {quoted(absent)}")
    if bare:
        remarks.append(
            f"{path.name}: {len(bare):,} images of the folder have no label and are left out: {quoted(bare)}"
        )
    return _listed(labels, tuple(remarks))


def _spellings(names: Sequence[str]) -> dict[str, str]:
    """Full name, name without folder, name without suffix: each where it means one image only."""
    known: dict[str, str] = {}
    for spell in (_stem, _base, str):
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(spell(name), []).append(name)
        known |= {spelling: those[0] for spelling, those in found.items() if len(those) == 1}
    return known


def _base(name: str) -> str:
    return PurePosixPath(name).name


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _label(text: str) -> str:
    """A class name; Kaggle's ImageNet list has boxes after the synset."""
    word = text.partition(" ")[0]
    return word if WORDNET_ID.fullmatch(word) else text.strip()


def _listed(labels: dict[str, str], remarks: tuple[str, ...]) -> LabelList:
    return LabelList(labels=labels, classes=tuple(sorted(set(labels.values()))), remarks=remarks)


def _devkit(path: Path) -> dict[int, str]:
    """Synset by ILSVRC2012's own number, from the devkit's meta.mat: these numbers are no network's classes."""
    meta = next(
        (place / "meta.mat" for place in (path.parent, path.parent / "data") if (place / "meta.mat").is_file()), None
    )
    if meta is None or meta.stat().st_size > LARGEST_METADATA:
        raise DataError(
            f"labels {path} holds ILSVRC2012's own numbers, whose order is no network's; put the devkit's meta.mat "
            "beside it, or give a list of synsets (n01440764, ...), one per image"
        )
    from scipy.io import loadmat  # noqa: PLC0415 - slow to import, and only this list needs it

    try:
        entries = loadmat(meta, simplify_cells=True)["synsets"]
        pairs = {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in entries}
    except Exception as error:  # scipy raises nearly anything on damaged files
        raise DataError(f"{meta} is no devkit metadata ({type(error).__name__}); fetch the devkit again") from error
    return {number: synset for number, synset in pairs.items() if number <= 1000}
