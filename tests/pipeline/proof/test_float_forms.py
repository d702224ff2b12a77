"""Which float file is timed beside which INT8 file, and what is said where there is none."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from rexnet_export.pipeline.artifact.target import Source, Target
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Artifact, NotMeasured, Precision, StoredFile
from rexnet_export.pipeline.proof.float_forms import NO_FLOAT, NOT_INT8, float_forms


def stored(path: Path) -> StoredFile:
    return StoredFile(path=path, sha256="0" * 64, bytes=1)


@dataclass
class Fake:
    """Writes one file and a preset; counts what it is asked for."""

    name: str = "ort"
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    fails: Exception | None = None
    unopened: Exception | None = None
    opened: list[Path] = field(default_factory=list)

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        assert source.precision == "fp32"
        if self.fails:
            raise self.fails
        (folder / stem).write_text("float")
        return Artifact(
            target=self.name,
            precision="fp32",
            file=stored(folder / stem),
            presets={"x86": stored(folder / "x86.onnx")},
        )

    def open(self, artifact: Artifact) -> str:
        if self.unopened:
            raise self.unopened
        self.opened.append(artifact.file.path)
        return artifact.file.path.name


@dataclass(frozen=True)
class Int8:
    """All of a source that is asked for."""

    precision: Precision = "int8"


INT8 = Artifact(
    target="ort",
    precision="int8",
    file=stored(Path("a")),
    presets={"x86": stored(Path("b.ort")), "npu": stored(Path("c.onnx")), "new": stored(Path("d.new"))},
)
ALL = ("ort", "ort x86", "ort npu", "ort new")


def forms(
    target: Fake, artifact: Artifact = INT8, timed: tuple[str, ...] = ALL
) -> tuple[dict[str, Any], dict[str, Any]]:
    with float_forms([(cast("Target", target), artifact)], cast("Source", Int8()), timed, Silent()) as found:
        assert all(path.parent.is_dir() for path in target.opened)
        return dict(found.sessions), dict(found.of)


def test_a_preset_has_its_own_float_form_or_that_of_its_format_or_the_files() -> None:
    target = Fake()
    sessions, of = forms(target)
    forms_of = ("ort float", "ort x86 float", "ort x86 float", "ort float")
    assert of == dict(zip(ALL, forms_of, strict=True))
    assert sessions == {"ort float": "ort-float", "ort x86 float": "x86.onnx"}
    assert not any(path.exists() for path in target.opened), "they go when the timing is over"


def test_only_what_is_timed_is_made() -> None:
    target = Fake(fails=AssertionError("made"))
    assert forms(target, timed=()) == ({}, {})
    sessions, of = forms(Fake(), timed=("ort npu",))
    assert (list(sessions), of) == (["ort x86 float"], {"ort npu": "ort x86 float"})


def test_a_float_file_has_none_beside_it() -> None:
    target = Fake(fails=AssertionError("made"))
    assert forms(target, replace(INT8, precision="fp32")) == ({}, dict.fromkeys(ALL, NOT_INT8))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Fake(precisions=("int8",)), NO_FLOAT.reason),
        (Fake(fails=ConversionError("too large")), "its float form: too large"),
        (Fake(unopened=TargetUnavailable("no runtime")), "its float form: no runtime"),
    ],
)
def test_what_cannot_be_made_or_opened_has_a_reason(target: Fake, reason: str) -> None:
    assert forms(target) == ({}, dict.fromkeys(ALL, NotMeasured(reason=reason)))
