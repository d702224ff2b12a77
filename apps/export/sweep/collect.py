"""From the folders of finished trials to one record of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ConfigDict

from rexnet_export.apps.export.sweep.findings import Right, against_best, counts, front
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.sweep_json import AgainstBest, Best, FileRow, NoticeRow, SweepJson, TrialRow
from rexnet_export.apps.export.sweep.trial import Exported
from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.accuracy.margin import MARGIN
from rexnet_export.pipeline.accuracy.places import Places, checked_places, places_key
from rexnet_export.pipeline.core.array_files import read_arrays
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.files import REPORT_FILE
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Measurement, NotMeasured, Text
from rexnet_export.pipeline.core.untrusted import read_untrusted

MOST_BYTES = 2**30  # of one trial's report or predictions
PREDICTIONS, REFERENCE = "predictions.npz", "reference"
UNLABELLED = NotMeasured(reason="the images have no labels, or the network no classes")
NOTHING = NotMeasured(reason="no trial was done")
OTHER_IMAGES = NotMeasured(reason="trials were measured on different images, so they cannot be compared")


class _FileJson(JsonRecord):
    """Of a file in a report only what is compared."""

    model_config = ConfigDict(extra="ignore")

    artifact: Text
    sha256: Sha256
    bytes: AtLeastOne
    accuracy: Measurement[Accuracy]


class _TargetJson(_FileJson):
    """The same of a target, which has presets."""

    presets: dict[str, _FileJson]


class _ReferenceJson(JsonRecord):
    """Of the float network only what it was run on."""

    model_config = ConfigDict(extra="ignore")

    images_sha256: Text
    n: AtLeastOne


class _ReportJson(JsonRecord):
    """Of a report only that."""

    model_config = ConfigDict(extra="ignore")

    notices: tuple[Text, ...]
    reference: _ReferenceJson
    targets: dict[str, _TargetJson]


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a finished trial's own records say; `right` has the reference and every file, by name.

    `places` are the images of files that were not asked about all.
    """

    trial: Trial
    report: _ReportJson
    files: Mapping[str, _FileJson]
    right: Mapping[str, Right]
    places: Mapping[str, Places]

    def top1(self, name: str) -> float | None:
        """What fronts go by: of a file that was asked about fewer images, the reference's top-1 less the drop on them.

        Top-1 of these images alone would say how easy they are.
        """
        accuracy = self.files[name].accuracy
        if isinstance(accuracy, NotMeasured):
            return None
        if name not in self.places:
            return accuracy.top1
        return min(1.0, max(0.0, float(self.right[REFERENCE].mean()) - accuracy.drop))


def collected(trials: Sequence[Trial], results: Mapping[str, Exported | Failed], folder: Path) -> SweepJson:
    """All trials in their order; what one run of a sweep says of them, every other says too."""
    made = [_made(trial) for trial in trials if isinstance(results[trial.name], Exported)]
    images = {each.report.reference.images_sha256 for each in made}
    judged = [each for each in made if each.right]
    best: Measurement[Best] = OTHER_IMAGES if len(images) > 1 else UNLABELLED if made else NOTHING
    compared: Mapping[Hashable, AgainstBest] = {}
    if judged and len(images) == 1:
        # Of equal ones the first: the order of trials is the file's, not that in which they ended.
        top = max(judged, key=lambda each: float(each.right[REFERENCE].mean()))
        best = Best(trial=top.trial.name, top1=float(top.right[REFERENCE].mean()))
        compared = against_best(
            {
                (each.trial.name, name): (name, counts(each.right[name], _asked(each, name, top.right[REFERENCE])))
                for each in judged
                for name in each.files
                if name in each.right
            },
            MARGIN / 100,
        )
    comparable = judged if len(images) == 1 else []
    smallest = {key for family in _families(comparable).values() for key in front(family)}
    by_name = {each.trial.name: each for each in made}
    return SweepJson(
        margin=MARGIN / 100,
        images=made[0].report.reference.n if len(images) == 1 else 0,
        images_sha256=next(iter(images)) if len(images) == 1 else None,
        best=best,
        notices=tuple(_notices(made)),
        trials=tuple(
            _row(
                trial,
                results[trial.name],
                [] if trial.name not in by_name else list(_files(by_name[trial.name], compared, smallest, folder)),
            )
            for trial in trials
        ),
    )


def _notices(made: Sequence[_Made]) -> Iterator[NoticeRow]:
    """Every notice once, with its trials."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in made:
        for notice in dict.fromkeys(each.report.notices):
            found[notice].append(each.trial.name)
    return (NoticeRow(notice=notice, trials=tuple(trials)) for notice, trials in found.items())


def _row(trial: Trial, result: Exported | Failed, files: Sequence[FileRow]) -> TrialRow:
    options = trial.options
    return TrialRow(
        name=trial.name,
        checkpoint=options.checkpoint,
        image_size=options.image_size,
        effort=trial.effort,
        precision=options.precision,
        target=trial.target,
        failure=result if isinstance(result, Failed) else None,
        files=tuple(files),
    )


def _files(
    made: _Made, compared: Mapping[Hashable, AgainstBest], smallest: Collection[Hashable], folder: Path
) -> Iterator[FileRow]:
    place = made.trial.options.output.relative_to(folder.absolute())
    for name, file in made.files.items():
        key = (made.trial.name, name)
        reason = file.accuracy if isinstance(file.accuracy, NotMeasured) else OTHER_IMAGES
        yield FileRow(
            name=name,
            file=(place / file.artifact).as_posix(),
            sha256=file.sha256,
            bytes=file.bytes,
            accuracy=file.accuracy,
            top1_of_all=made.top1(name),
            against_best=compared.get(key, reason),
            on_size_front=key in smallest,
        )


def _families(made: Sequence[_Made]) -> dict[str, list[tuple[Hashable, float, float]]]:
    """By name, every file with its top-1 and its bytes."""
    families: dict[str, list[tuple[Hashable, float, float]]] = defaultdict(list)
    for each in made:
        for name, file in each.files.items():
            if (top1 := each.top1(name)) is not None:
                families[name].append(((each.trial.name, name), top1, file.bytes))
    return families


def _made(trial: Trial) -> _Made:
    folder = trial.options.output
    try:
        report = _ReportJson.parse(read_untrusted(folder / REPORT_FILE, MOST_BYTES))
        predictions = folder / PREDICTIONS
        arrays = read_arrays(predictions, MOST_BYTES) if predictions.exists() else {}
        files = dict(_named(report))
        right, places = _right(arrays, files) if "labels" in arrays else ({}, {})
    except OSError as error:
        raise ConversionError(f"{folder} cannot be read ({error.strerror}): go on with --resume") from error
    except (ConversionError, ValueError) as error:
        raise ConversionError(f"{folder}: {error}; go on with --resume") from error
    return _Made(trial=trial, report=report, files=files, right=right, places=places)


def _named(report: _ReportJson) -> Iterator[tuple[str, _FileJson]]:
    """Every file under its target's name, or `target preset`."""
    for name, target in report.targets.items():
        yield name, target
        yield from ((f"{name} {preset}", file) for preset, file in target.presets.items())


def _right(
    arrays: Mapping[str, NDArray[Any]], files: Mapping[str, _FileJson]
) -> tuple[dict[str, Right], dict[str, Places]]:
    """Which images the reference and every file have right; an array is called as its file, spaces as dashes.

    With the places of those that were not asked about all images.
    """
    labels, right, places = arrays["labels"], {}, {}
    for name, key in {name: name.replace(" ", "-") for name in (REFERENCE, *files)}.items():
        if places_key(key) in arrays:
            places[name] = checked_places(arrays[places_key(key)], len(labels))
        if key in arrays:
            right[name] = arrays[key].argmax(1) == (labels[places[name]] if name in places else labels)
    return right, places


def _asked(made: _Made, name: str, best: Right) -> Right:
    """Which images the best network has right of those that a file was asked about."""
    return best[made.places[name]] if name in made.places else best
