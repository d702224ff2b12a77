"""Stored baselines: what an accepted artifact chose on every image, what it must not fall behind, and why it changed.

A baseline is `TARGET.json`, which a person reviews, and the class of each image in a `.npz` that carries its digest in
its name: it is there before a `.json` names it, so a change that was cut off leaves the older pair. The last entry of
the history holds the digest of everything else, so that a change without a reason is seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.gate.accuracy.evidence import readable
from rexnet_export.apps.gate.accuracy.predictions import Classes, LabelledImages, Predictions
from rexnet_export.apps.gate.baseline.record import (
    AnchorsJson,
    BaselineJson,
    ContentJson,
    ImagesJson,
    NetworkJson,
)
from rexnet_export.pipeline.accuracy.places import Places, checked_places, places_key
from rexnet_export.pipeline.core.array_files import read_arrays
from rexnet_export.pipeline.core.errors import BaselineError, ConversionError, DataError
from rexnet_export.pipeline.core.records import Precision, file_sha256
from rexnet_export.pipeline.core.strict_json import a_list, a_sha256, an_object, read_json, strict_loads
from rexnet_export.pipeline.core.untrusted import read_untrusted

SCHEMA_VERSION = 1
MOST_BYTES = 64 * 2**20
PENDING = ".pending"
MOST_ARRAYS, IMAGE_BYTES = 12, 2  # arrays of a baseline, and bytes for an image; places take those of two
CURRENT: Final = "current"
FLOAT: Final = "float"
RELEASE: Final = "release"
RESTORE = "restore both of its files, then use rexnet-gate update --reason TEXT to change them"
UPDATE = "accept the present artifacts with: rexnet-gate update FOLDER --reason TEXT"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The accepted predictions of one target, and its anchors: the float network's and the last release's.

    `history` holds the JSON of every change, oldest first.
    """

    path: Path
    model: str
    target: str
    precision: Precision
    processor: str
    images: LabelledImages
    current: Predictions
    float_anchor: Predictions
    release_anchor: Predictions | None
    history: tuple[Mapping[str, Any], ...]

    @property
    def anchors(self) -> dict[str, Predictions]:
        """The anchors there are, by name."""
        release = {} if self.release_anchor is None else {RELEASE: self.release_anchor}
        return {FLOAT: self.float_anchor} | release


def arrays_file(path: Path, sha256: str, *, new: bool = False) -> Path:
    """Where the arrays of the baseline `path` lie; those that are not `new` may not have their digest in their name."""
    older, named = path.with_suffix(".npz"), path.with_name(f"{path.stem}.{sha256[:16]}.npz")
    return older if not new and older.is_file() and not named.exists() else named


def pending(folder: Path) -> dict[str, object]:
    """Records, by file name, of an update that was cut off once it was decided: they stand for the files."""
    path = folder / PENDING
    if not path.exists():
        return {}
    with readable(path, "restore the folder"):
        records = an_object(read_json(path, MOST_BYTES), "it")
        for name, record in records.items():
            if Path(name).name != name or Path(name).suffix != ".json":
                raise ConversionError(f"it names {name!a}, no file beside it")
            a_sha256(an_object(record, name).get("predictions_sha256"), f"{name}: predictions_sha256")
        return records


def baseline_file(folder: Path, target: str) -> Path:
    """Where the baseline of a target (`ort`, `ort x86`) lies in a model's folder."""
    return folder / f"{target.replace(' ', '-')}.json"


def correct(predictions: Predictions, images: LabelledImages) -> int:
    """How many images a network has right."""
    return int((predictions.classes == images.asked(predictions)).sum())


def content_json(baseline: Baseline, arrays_sha256: str) -> dict[str, Any]:
    """Everything a baseline says but its history."""
    release = baseline.release_anchor
    return ContentJson(
        model=baseline.model,
        target=baseline.target,
        precision=baseline.precision,
        processor=baseline.processor,
        images=ImagesJson(name=baseline.images.name, sha256=baseline.images.sha256, n=len(baseline.images.labels)),
        class_names=baseline.images.class_names,
        predictions_sha256=arrays_sha256,
        current=network_json(baseline.current, baseline.images),
        anchors=AnchorsJson(
            float=network_json(baseline.float_anchor, baseline.images),
            release=None if release is None else network_json(release, baseline.images),
        ),
    ).to_json()


def network_json(network: Predictions, images: LabelledImages) -> NetworkJson:
    """One network as a baseline names it."""
    right = correct(network, images)
    return NetworkJson(
        file=network.file,
        sha256=network.sha256,
        executed_by=network.executed_by,
        correct=right,
        top1=round(right / len(network.classes), 6),
        n=None if network.places is None else len(network.classes),
    )


def arrays(baseline: Baseline) -> dict[str, NDArray[np.generic]]:
    """What goes into the `.npz`: uint16 classes [n] of every network, and float16 probabilities of the current one.

    Beside those of a network that was not asked about all images are the places of those that it was, uint32.
    """
    networks = {CURRENT: baseline.current} | baseline.anchors
    found: dict[str, NDArray[np.generic]] = {name: network.classes for name, network in networks.items()}
    for name, network in networks.items():
        if network.places is not None:
            found[places_key(name)] = network.places.astype(np.uint32)
    if baseline.current.confidences is not None:
        found["confidences"] = baseline.current.confidences.astype(np.float16)
    return found | {"labels": baseline.images.labels}


def digest(value: object) -> str:
    """SHA-256 of JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def entry_digest(entry: Mapping[str, Any], previous: str | None) -> str:
    """Digest of a history entry and, through that of the one before it, of all before it."""
    return digest({"previous": previous, "entry": {key: value for key, value in entry.items() if key != "digest"}})


def read_baselines(path: Path, model: str) -> dict[str, Baseline]:
    """Baselines by target: one from a file; from a folder those of the model, in it or in its sub-folder `model`."""
    if path.is_file():
        found = [read_baseline(path)]
    else:
        folder = path / model if (path / model).is_dir() else path
        files = {*folder.glob("*.json"), *(folder / name for name in pending(folder))}
        found = [read_baseline(file) for file in sorted(files)]
    if not found:
        raise BaselineError(f"{path} holds no baseline of {model}; {UPDATE}")
    if strangers := [baseline for baseline in found if baseline.model != model]:
        raise BaselineError(f"{strangers[0].path} is of {strangers[0].model}, not of {model}; name one of {model}")
    return {baseline.target: baseline for baseline in found}


def read_baseline(path: Path) -> Baseline:
    """Read a baseline; one that changed without a reason, or is newer than this program, is a `BaselineError`."""
    with readable(path, "restore it"):
        decided = pending(path.parent).get(path.name)
        text = read_untrusted(path, MOST_BYTES) if decided is None else json.dumps(decided).encode()
        content = an_object(strict_loads(text), "it")
        version = content.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BaselineError(
                f"{path} has schema_version {version}, this program reads up to {SCHEMA_VERSION}; install a newer "
                "rexnet-export"
            )
        history = [an_object(entry, "history") for entry in a_list(content.pop("history", None), "history")]
        _require_reasons(path, content, history)
        return _parsed(path, BaselineJson.parse(text), history)


def _require_reasons(path: Path, content: dict[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
    previous = None
    for entry in history:
        if not str(entry.get("reason") or "").strip() or entry.get("digest") != entry_digest(entry, previous):
            raise BaselineError(f"{path}: an entry of its history was edited or has no reason; {RESTORE}")
        previous = entry["digest"]
    if not history or history[-1].get("content_sha256") != digest(content):
        raise BaselineError(f"{path} changed without a reason; {RESTORE}")


def _parsed(path: Path, read: BaselineJson, history: Sequence[Mapping[str, Any]]) -> Baseline:
    count, names = read.images.n, read.class_names
    stored = _arrays(path, read.predictions_sha256, count)

    def network(name: str, told: NetworkJson, confidences: NDArray[Any] | None = None) -> Predictions:
        places = _places(path, stored, name, count)
        asked = count if places is None else len(places)
        if confidences is not None and (confidences.dtype != np.float16 or confidences.shape != (asked,)):
            raise DataError(f"the arrays of {path}: confidences are not {asked:,} probabilities; restore them")
        return Predictions(
            file=told.file,
            sha256=told.sha256,
            executed_by=told.executed_by,
            classes=_classes(path, stored, name, asked, len(names)),
            confidences=None if confidences is None else confidences.astype(np.float32),
            places=places,
        )

    anchors = read.anchors
    return Baseline(
        path=path,
        model=read.model,
        target=read.target,
        precision=read.precision,
        processor=read.processor,
        images=LabelledImages(
            name=read.images.name,
            sha256=read.images.sha256,
            class_names=names,
            labels=_classes(path, stored, "labels", count, len(names)),
        ),
        current=network(CURRENT, read.current, stored.get("confidences")),
        float_anchor=replace(network(FLOAT, anchors[FLOAT]), float_of=anchors[FLOAT].sha256),  # named by its checkpoint
        release_anchor=None if anchors[RELEASE] is None else network(RELEASE, anchors[RELEASE]),
        history=tuple(history),
    )


def _arrays(baseline: Path, sha256: str, images: int) -> dict[str, NDArray[Any]]:
    path = arrays_file(baseline, sha256)
    if not path.is_file():
        raise BaselineError(f"{path} is missing; {RESTORE}")
    if file_sha256(path) != sha256:
        raise BaselineError(f"{path} is not the file its baseline names; {RESTORE}")
    with readable(path, "restore it"):
        return read_arrays(path, MOST_ARRAYS * IMAGE_BYTES * images)


def _classes(path: Path, stored: Mapping[str, NDArray[Any]], name: str, images: int, classes: int) -> Classes:
    found = stored.get(name)
    if found is None or found.dtype != np.uint16 or found.shape != (images,) or found.max() >= classes:
        raise DataError(f"the arrays of {path}: {name} are not {images:,} of {classes} classes; restore them")
    return found


def _places(path: Path, stored: Mapping[str, NDArray[Any]], name: str, images: int) -> Places | None:
    """The images that a network was asked about, where not about all."""
    if (found := stored.get(places_key(name))) is None:
        return None
    try:
        return checked_places(found, images)
    except ValueError as error:
        raise DataError(f"the arrays of {path}: {name}: {error}; restore them") from error
