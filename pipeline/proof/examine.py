"""One finished file by itself: is it what was written, does it compute what it did, does it hold its table?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rexnet_export.pipeline.artifact import self_test as selftest
from rexnet_export.pipeline.artifact.export_folder import Release
from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import card_from, float_tensors_from
from rexnet_export.pipeline.artifact.self_test import SelfTest
from rexnet_export.pipeline.artifact.target import OutputSession, require_int8
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, TargetUnavailable
from rexnet_export.pipeline.core.files import MANIFEST_FILE
from rexnet_export.pipeline.core.records import (
    PRECISIONS,
    Artifact,
    Coverage,
    Measurement,
    ModelCard,
    NotMeasured,
    StoredFile,
)
from rexnet_export.pipeline.labels.class_names import listed
from rexnet_export.pipeline.proof.read_back import differences
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table_file import load_table

LOGITS = "logits"
UNVOUCHED = NotMeasured(reason="consistent with itself only: no manifest.json beside it, and no --expect")
UNREAD = NotMeasured(reason="the file cannot be read")


class File(OutputSession, Protocol):
    """One artifact, opened where a crash harms nobody else."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    def inspect(self) -> Inspection:
        """What it really holds."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one file showed; without `problems` it is consistent with itself, and computes what it did when written.

    `vouched_by` says what besides the file itself knows its digest; `compressed` the weights that another tool
    stores in other forms now.
    """

    name: str
    file: StoredFile
    problems: tuple[str, ...]
    card: Measurement[ModelCard]
    precision: Measurement[str]
    executed_by: Measurement[str]
    self_test: Measurement[SelfTest]
    holds_table: Measurement[bool]
    coverage: Measurement[Coverage]
    qparams: Mapping[str, QuantParams]
    vouched_by: Measurement[str]
    float_onnx_sha256: str | None = None
    compressed: Mapping[str, str] = field(default_factory=dict)

    @property
    def step(self) -> float | None:
        """The scale of its logits, where they are INT8."""
        logits = self.qparams.get(LOGITS)
        return logits.scale[0] if logits else None

    @property
    def changes(self) -> tuple[str, ...]:
        """What another tool has made of the file's weights since, and what that did to its logits."""
        by_form: dict[str, list[str]] = {}
        for name, form in self.compressed.items():
            by_form.setdefault(form, []).append(name)
        lines = [f"compressed since it was written: {listed(names)} to {form}" for form, names in by_form.items()]
        tested = self.self_test
        if lines and isinstance(tested, SelfTest):
            apart = f"up to {tested.largest_difference:.3g} from those it gave then"
            lines.append(
                f"its logits on its golden images are {apart}, top-1 the same on {tested.same_top1} of {tested.n}"
            )
        return tuple(lines)


def examine(file: File, name: str, stored: StoredFile, release: Release) -> Finding:
    """Ask a file everything it can answer alone; what it cannot is a problem, and the rest is asked all the same."""
    problems = _Problems()
    wanted = release.digests.get(file.path)
    vouched: Measurement[str] = MANIFEST_FILE if wanted == stored.sha256 else UNVOUCHED
    if wanted not in {None, stored.sha256}:
        problems.add(f"its content is not what {MANIFEST_FILE} says")
    if wanted is None and any(path.parent == file.path.parent for path in release.digests):
        problems.add(f"{MANIFEST_FILE} beside it does not know it")
    inspection = file.inspect()
    compressed = problems.asked(lambda: inspection.compressed) or {}
    if altered := [name for name in problems.asked(lambda: inspection.altered) or () if name not in compressed]:
        problems.add(f"{listed(altered)} {'is' if len(altered) == 1 else 'are'} not what the exporter wrote")
    metadata = problems.asked(lambda: inspection.metadata)
    card = problems.asked(lambda: card_from(metadata)) if metadata is not None else None
    if metadata is None or card is None:
        return _unread(name, stored, problems, vouched)
    qparams = problems.asked(lambda: inspection.qparams) if metadata.get("precision") == "int8" else {}
    coverage = problems.asked(lambda: inspection.coverage)
    if coverage is not None:
        problems.asked(lambda: require_int8(_artifact(metadata, stored), coverage, float_tensors_from(metadata)))
    held: Measurement[bool] = UNREAD
    if qparams is not None:
        held = problems.asked(lambda: _holds_table(inspection, qparams, release, problems)) or False
    executed_by, self_test = _executed(file, metadata, qparams or {}, problems, compressed=bool(compressed))
    return Finding(
        name=name,
        file=stored,
        problems=problems.found,
        card=card,
        precision=metadata.get("precision", "unknown"),
        executed_by=executed_by,
        self_test=self_test,
        holds_table=held,
        coverage=coverage or UNREAD,
        qparams=qparams or {},
        vouched_by=vouched,
        float_onnx_sha256=metadata.get("float_onnx_sha256"),
        compressed=compressed,
    )


class _Problems:
    """What went wrong so far; each thing is said once."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}
        self.unread = UNREAD

    @property
    def found(self) -> tuple[str, ...]:
        return tuple(self._found)

    def add(self, problem: str) -> None:
        self._found[problem] = None

    def asked[T](self, question: Callable[[], T]) -> T | None:
        """The answer, or None and the reason among the problems, unless it is what this machine lacks."""
        try:
            return question()
        except TargetUnavailable as error:  # nothing is wrong with the file
            self.unread = NotMeasured(reason=str(error))
        except ExportError as error:
            self.add(str(error))
        return None


def _unread(name: str, stored: StoredFile, problems: _Problems, vouched: Measurement[str]) -> Finding:
    """Nothing but its digest is known of a file."""
    reason = problems.unread
    return Finding(
        name=name,
        file=stored,
        problems=problems.found,
        card=reason,
        precision=reason,
        executed_by=reason,
        self_test=reason,
        holds_table=reason,
        coverage=reason,
        qparams={},
        vouched_by=vouched if reason != UNREAD else UNVOUCHED,
    )


def _artifact(metadata: Mapping[str, str], stored: StoredFile) -> Artifact:
    precision = metadata.get("precision")
    if precision not in PRECISIONS:
        raise ConversionError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}; export it again")
    return Artifact(target="", precision=precision, file=stored)


def _holds_table(
    inspection: Inspection, qparams: Mapping[str, QuantParams], release: Release, problems: _Problems
) -> Measurement[bool]:
    """Compare with the table beside the file, which must be the one it was built from."""
    if not qparams:
        return NotMeasured(reason="only INT8 files hold the quantization table")
    if not release.tables:
        return NotMeasured(reason="no qparams.json lies beside it")
    metadata = inspection.metadata
    for table in release.tables:
        if table.sha256 == metadata.get("table_sha256"):
            held = load_table(table.path)
            differing = differences(held, qparams, inspection.inside)
            differing += sorted(float_tensors_from(metadata).symmetric_difference(held.float_tensors))
            if differing:
                problems.add(f"{listed(differing)} differ from {table.path.name}")
            return not differing
    problems.add(f"it was built from another table than {', '.join(str(table.path) for table in release.tables)}")
    return False


def _executed(
    file: File,
    metadata: Mapping[str, str],
    qparams: Mapping[str, QuantParams],
    problems: _Problems,
    *,
    compressed: bool,
) -> tuple[Measurement[str], Measurement[SelfTest]]:
    try:
        executed_by: Measurement[str] = file.executed_by
        tested = selftest.check(file, metadata, qparams)
    except TargetUnavailable as error:
        return NotMeasured(reason=str(error)), NotMeasured(reason=str(error))
    except ExportError as error:
        problems.add(str(error))
        return NotMeasured(reason=str(error)), NotMeasured(reason=str(error))
    if not isinstance(tested, NotMeasured) and not tested.passed and not compressed:
        steps, largest = tested.largest_steps, tested.largest_difference
        apart = f"{largest:.3g}" if steps is None else f"{steps:.0f} quantization steps"
        problems.add(
            f"its logits on its golden images are up to {apart} from those it gave when it was written "
            f"(then by {tested.executed_then}, now by {tested.executed_now})"
        )
    return executed_by, tested
