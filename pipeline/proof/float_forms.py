"""The float file of the same format beside each INT8 file, so that what INT8 gains is timed in the same sitting."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.target import OutputSession, Source, Target
from rexnet_export.pipeline.core.errors import ExportError, InvalidMeasurement
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Artifact, Measurement, NotMeasured, StoredFile
from rexnet_export.pipeline.proof.latency import Latency, measure
from rexnet_export.pipeline.proof.run_networks import Networks

NOT_INT8 = NotMeasured(reason="only an INT8 file has a float file of its format timed beside it")
NO_FLOAT = NotMeasured(reason="the format is offered in INT8 alone")


@dataclass(frozen=True, kw_only=True)
class FloatForms:
    """Float files that are open, by name, and which of them belongs to each INT8 file."""

    sessions: Mapping[str, OutputSession]
    of: Mapping[str, Measurement[str]]


def latencies(
    artifacts: Sequence[tuple[Target, Artifact]],
    timed: Networks,
    source: Source,
    image: NDArray[np.uint8],
    progress: Progress,
) -> tuple[dict[str, Measurement[Latency]], dict[str, Measurement[Latency]]]:
    """How long an image [1, S, S, 3] takes each file, and the float file beside it, all in the same rounds.

    On a busy machine there is the reason in place of durations.
    """
    if not timed:
        return {}, {}
    with float_forms(artifacts, source, timed, progress) as beside:
        sessions = {name: network.open() for name, network in timed.items()} | dict(beside.sessions)
        runs = {name: session.outputs for name, session in sessions.items()}
        found: dict[str, Measurement[Latency]] = {}
        try:
            found |= measure(runs, image, progress)
        except InvalidMeasurement as error:
            found |= dict.fromkeys(runs, NotMeasured(reason=str(error)))
    own = {name: found[name] for name in timed}
    return own, {
        name: name_of if isinstance(name_of, NotMeasured) else found[name_of] for name, name_of in beside.of.items()
    }


@contextmanager
def float_forms(
    artifacts: Sequence[tuple[Target, Artifact]], source: Source, timed: Collection[str], progress: Progress
) -> Iterator[FloatForms]:
    """Those of the `timed` files that are INT8: made for this alone, in a folder that goes when the context ends.

    A preset is compared with the float form's preset of the same name, or else with the float file of its format.
    """
    sessions: dict[str, OutputSession] = {}
    of: dict[str, Measurement[str]] = {}
    with tempfile.TemporaryDirectory(prefix="rexnet-export-") as folder:
        with progress.stage("making float files to time beside", len(artifacts), "targets") as bar:
            for target, artifact in artifacts:
                presets = {"": artifact.file, **artifact.presets}
                names = {preset: f"{target.name} {preset}".rstrip() for preset in presets}
                wanted = {preset: name for preset, name in names.items() if name in timed}
                if artifact.precision != "int8":
                    of |= dict.fromkeys(wanted.values(), NOT_INT8)
                elif wanted:
                    made = _made(target, source, Path(folder))
                    for preset, name in wanted.items():
                        if isinstance(made, NotMeasured):
                            of[name] = made
                        else:
                            of[name] = _opened(target, made, _form(made, preset, presets[preset]), sessions)
                bar.advance(1, target.name)
        yield FloatForms(sessions=sessions, of=of)


def _made(target: Target, source: Source, folder: Path) -> Measurement[Artifact]:
    if "fp32" not in target.precisions:
        return NO_FLOAT
    try:
        return target.convert(replace(source, precision="fp32"), folder, f"{target.name}-float")
    except ExportError as error:  # the INT8 file is what was asked for, and that one is made
        return NotMeasured(reason=f"its float form: {error}")


def _form(made: Artifact, preset: str, file: StoredFile) -> str:
    """The preset of the float form that an INT8 preset's file is compared with; "" is the float file itself."""
    alike = [name for name, other in made.presets.items() if other.path.suffix == file.path.suffix]
    return preset if preset in made.presets or not preset else (alike or [""])[0]


def _opened(target: Target, made: Artifact, form: str, sessions: dict[str, OutputSession]) -> Measurement[str]:
    """The name of the float file, opened where it was not yet."""
    name = " ".join(filter(None, (target.name, form, "float")))
    if name not in sessions:
        file = made.presets[form] if form else made.file
        try:
            sessions[name] = target.open(replace(made, file=file))
        except ExportError as error:
            return NotMeasured(reason=f"its float form: {error}")
    return name
