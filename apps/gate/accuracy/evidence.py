"""What every network of an export chose on every image: read from its folder, and believed only where it is whole."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.gate.accuracy.predictions import Classes, LabelledImages, Predictions
from rexnet_export.apps.gate.accuracy.report_part import ReportPart
from rexnet_export.pipeline.accuracy.places import Places, checked_places, places_key
from rexnet_export.pipeline.artifact.export_folder import altered, digests
from rexnet_export.pipeline.core.array_files import ArrayArchive
from rexnet_export.pipeline.core.errors import BaselineError, ConversionError, DataError, first_line
from rexnet_export.pipeline.core.files import MANIFEST_FILE, REPORT_FILE
from rexnet_export.pipeline.core.records import NotMeasured, Precision
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.pipeline.proof.onnx_stages import predictions_key

PREDICTIONS_FILE = "predictions.npz"
NEWEST_REPORT = 1  # the schema_version of a report.json that is understood here
LONGEST_ID = 4096
FLOAT_STAGES = frozenset({"float", "equalized"})  # graphs that only write the float network differently
_VERSION = re.compile(r" \d")  # what stands before it is a runtime's name
MOST_REPORT_BYTES, MOST_ARRAYS_BYTES = 64 * 2**20, 2**33


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The predictions of a whole chain on the same labelled images, whose names are `ids`.

    `reference` is the float network, in torch or as an earlier export's graph; `stages` the ONNX graphs in order,
    `targets` every artifact and preset (`ort`, `ort x86`); `not_run` says of those that nothing executed, why. `source`
    is where it was read.
    """

    source: str
    model: str
    precision: Precision
    images: LabelledImages
    ids: tuple[str, ...]
    processor: str
    reference: Predictions
    stages: Mapping[str, Predictions]
    targets: Mapping[str, Predictions]
    not_run: Mapping[str, str]


def read_evidence(folder: Path) -> Evidence:
    """Read an output folder of rexnet-export; whatever is missing, altered or no prediction is a `DataError`."""
    report_file, arrays_file = folder / REPORT_FILE, folder / PREDICTIONS_FILE
    known = _vouched(folder)
    with readable(report_file):
        text = read_untrusted(report_file, MOST_REPORT_BYTES)
        _require_version(report_file, text)
        evidence = _evidence(folder, ReportPart.parse(text), arrays_file)
    _require_files(evidence, known)
    return evidence


def require_same_images(candidate: LabelledImages, other: LabelledImages, said: str) -> None:
    """`BaselineError` that says what differs, unless both are the same images with the same labels."""
    if candidate.class_names != other.class_names:
        pairs = zip(candidate.class_names, other.class_names, strict=False)
        place = next((index for index, (one, two) in enumerate(pairs) if one != two), None)
        difference = (
            f"{len(candidate.class_names)} classes and {len(other.class_names)}"
            if place is None
            else f"class {place} is {candidate.class_names[place]!r} and {other.class_names[place]!r}"
        )
        raise BaselineError(f"{said}: {difference}; export both with the same labels in the same order")
    same_way = "use the same --eval-data, --eval-images and --seed"
    if len(candidate.labels) != len(other.labels):
        raise BaselineError(f"{said}: {len(candidate.labels):,} and {len(other.labels):,} images; {same_way}")
    if candidate.sha256 != other.sha256:
        raise BaselineError(
            f"{said}: other images, or another order ({candidate.name} {candidate.sha256[:12]}, "
            f"{other.name} {other.sha256[:12]}); {same_way}"
        )
    if relabelled := int((candidate.labels != other.labels).sum()):
        raise BaselineError(f"{said}: {relabelled:,} images have another label; use the same labels for both")


def runtime(executed_by: str) -> str:
    """A runtime's name with its version's first two numbers: `ONNX Runtime 1.26.0` -> `ONNX Runtime 1.26`.

    Float32 in torch hardly depends on the version, which is left out: `torch 2.15.0 on CPU` -> `torch on CPU`. What
    stands behind a comma changes no answer.
    """
    words = executed_by.partition(",")[0].split()
    if words[:1] == ["torch"]:
        words = [word for word in words if not word[:1].isdigit()]
    return " ".join(".".join(word.split(".")[:2]) if word[:1].isdigit() and "." in word else word for word in words)


def _evidence(folder: Path, report: ReportPart, arrays_file: Path) -> Evidence:
    model, reference = report.model, report.reference
    if not model.labels:
        raise DataError(f"{folder} holds a network that gives numbers, not classes; the gate compares top-1")
    with _Arrays(arrays_file, reference.n, len(model.labels)) as arrays:
        ids, labels = arrays.ids(), arrays.labels()
        targets, not_run = _targets(report, arrays)
        return Evidence(
            source=str(folder),
            model=model.name,
            precision=report.precision,
            images=LabelledImages(
                name=reference.images,
                sha256=reference.images_sha256,
                class_names=model.labels,
                labels=labels,
            ),
            ids=ids,
            processor=report.environment.processor or "",
            reference=arrays.predictions(
                "reference",
                file=f"{model.name} in {_VERSION.split(reference.executed_by)[0]}",
                sha256=model.checkpoint_sha256,
                executed_by=reference.executed_by,
                float_of=model.checkpoint_sha256,
            ),
            stages={
                name: arrays.predictions(
                    predictions_key(name),
                    file=stage.file,
                    sha256=stage.sha256,
                    executed_by=stage.executed_by,
                    float_of=model.checkpoint_sha256 if name in FLOAT_STAGES else None,
                )
                for name, stage in report.stages.items()
            },
            targets=targets,
            not_run=not_run,
        )


def _targets(report: ReportPart, arrays: _Arrays) -> tuple[dict[str, Predictions], dict[str, str]]:
    found: dict[str, Predictions] = {}
    not_run: dict[str, str] = {}
    for target, whole in report.targets.items():
        float_of = report.model.checkpoint_sha256 if whole.precision == "fp32" else None
        presets = {f"{target} {preset}": file for preset, file in whole.presets.items()}
        for name, made in {target: whole, **presets}.items():
            if isinstance(made.executed_by, NotMeasured):
                not_run[name] = made.executed_by.reason
            else:
                found[name] = arrays.predictions(
                    name.replace(" ", "-"),
                    file=made.artifact,
                    sha256=made.sha256,
                    executed_by=made.executed_by,
                    float_of=float_of,
                )
    return found, not_run


class _Arrays:
    """`predictions.npz`, array by array; none may be larger than the report says, or hold objects."""

    def __init__(self, path: Path, images: int, classes: int) -> None:
        self._path, self._images, self._classes = path, images, classes

    def __enter__(self) -> _Arrays:
        with readable(self._path):
            self._archive = ArrayArchive(self._path, MOST_ARRAYS_BYTES)
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def ids(self) -> tuple[str, ...]:
        """Names of the images, each once."""
        ids = self._array("ids", self._images * 4 * LONGEST_ID)
        if ids.dtype.kind != "U" or ids.shape != (self._images,):
            raise self._wrong(f"ids are {ids.dtype} {list(ids.shape)}, not {self._images:,} names")
        names, times = np.unique(ids, return_counts=True)
        if len(names) < len(ids):
            raise self._wrong(f"image {names[times.argmax()]!s} is there {times.max()} times")
        return tuple(ids.tolist())

    def labels(self) -> Classes:
        """The true class of each image."""
        if "labels" not in self._archive.sizes:
            raise DataError(
                f"{self._path}: the images have no labels, so there is no accuracy to gate; export with --eval-data"
            )
        labels = self._array("labels", 8 * self._images)
        if labels.dtype.kind not in "iu" or labels.shape != (self._images,):
            raise self._wrong(f"labels are {labels.dtype} {list(labels.shape)}, not {self._images:,} integers")
        if labels.min() < 0 or labels.max() >= self._classes:
            raise self._wrong(f"label {labels.min() if labels.min() < 0 else labels.max()} is none of {self._classes}")
        return labels.astype(np.uint16)

    def predictions(self, key: str, *, file: str, sha256: str, executed_by: str, float_of: str | None) -> Predictions:
        """The largest of the logits [n, classes] and its softmax."""
        if key not in self._archive.sizes:
            raise self._wrong(f"no predictions of {key}, though {REPORT_FILE} says it ran")
        places = self._places(key)
        images = self._images if places is None else len(places)
        logits = self._array(key, 8 * images * self._classes)
        if logits.dtype.kind != "f" or logits.shape != (images, self._classes):
            raise self._wrong(f"logits of {key} are {logits.dtype} {list(logits.shape)}")
        if not (finite := np.isfinite(logits).all(1)).all():
            raise self._wrong(f"logits of {key} are not finite on {int((~finite).sum()):,} images")
        shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        return Predictions(
            file=file,
            sha256=sha256,
            executed_by=executed_by,
            classes=logits.argmax(1).astype(np.uint16),
            confidences=(1 / shifted.sum(1)).astype(np.float32),
            float_of=float_of,
            places=places,
        )

    def _places(self, key: str) -> Places | None:
        """The images that a network was asked about, where not about all."""
        name = places_key(key)
        if name not in self._archive.sizes:
            return None
        try:
            return checked_places(self._array(name, 8 * self._images), self._images)
        except ValueError as error:
            raise self._wrong(f"{name}: {error}") from error

    def _array(self, key: str, most_bytes: int) -> NDArray[np.generic]:
        with readable(self._path):
            return self._archive.read(key, most_bytes)

    def _wrong(self, problem: str) -> DataError:
        return DataError(f"{self._path}: {problem}; export again")


def _vouched(folder: Path) -> dict[str, str]:
    """Digests of the folder's files by name, all of which are as the manifest says."""
    if missing := [n for n in (MANIFEST_FILE, REPORT_FILE, PREDICTIONS_FILE) if not (folder / n).is_file()]:
        raise DataError(f"{folder} has no {', '.join(missing)}; name a folder that rexnet-export wrote completely")
    with readable(folder / MANIFEST_FILE):
        problems, known = altered(folder), digests(folder)
    if PREDICTIONS_FILE not in known:
        problems.append(f"{MANIFEST_FILE} does not know {PREDICTIONS_FILE}")
    if problems:
        raise DataError(f"{folder}: {'; '.join(problems)}; export again")
    return known


def _require_version(path: Path, text: bytes) -> None:
    content = strict_loads(text)
    found = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(found, int) and found > NEWEST_REPORT:
        raise DataError(
            f"{path} has schema_version {found}, this program reads up to {NEWEST_REPORT}; install a newer "
            "rexnet-export"
        )


def _require_files(evidence: Evidence, known: Mapping[str, str]) -> None:
    """What was executed for the report are the files that lie there: their digests are the manifest's."""
    for name, made in {**evidence.stages, **evidence.targets}.items():
        if known.get(made.file) != made.sha256:
            raise DataError(
                f"{evidence.source}: {name} is {made.file!a} ({made.sha256[:12]}), which {MANIFEST_FILE} does not "
                "know; export again"
            )


@contextmanager
def readable(path: Path, remedy: str = "export again") -> Iterator[None]:
    """Turn whatever goes wrong while reading a file into one line that names it."""
    try:
        yield
    except (
        ConversionError,
        OSError,
        ValueError,
        KeyError,
        EOFError,
        RecursionError,
        MemoryError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}); {remedy}") from error
