from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rexnet_export.pipeline import report as report_module
from rexnet_export.pipeline.evaluate import Accuracy
from rexnet_export.pipeline.latency import Latency
from rexnet_export.pipeline.parity import Parity
from rexnet_export.pipeline.records import Coverage, ModelCard, NotMeasured, Preprocess, StoredFile
from rexnet_export.pipeline.report import CalibrationResult, FileResult, Reference, Report, TargetResult, to_text

SEEN = Accuracy(n=10_000, top1=1.0, reference_top1=0.9025, drop=-0.0975, drop_upper_95=0.1)
UNLABELLED = NotMeasured(reason="the images have no labels; give --eval-data")


def made(name: str) -> FileResult:
    return FileResult(
        file=StoredFile(path=Path(name), sha256="c" * 64, bytes=114_300_000),
        executed_by="LiteRT 2.1.2",
        accuracy=SEEN,
        agreement_with_reference=0.9975,
        logit_sqnr_db=30.9,
        coverage=Coverage(int8_macs=999, total_macs=1000, float_ops=("softmax (SOFTMAX)",)),
        latency=Latency(p50_ms=1234.567, p90_ms=2000.0, n=50, machine="a <machine>"),
    )


def report(**artifacts: FileResult) -> Report:
    """One target per artifact, the first with an x86 preset."""
    return Report(
        card=ModelCard(name="rexnet_100", labels=("a", "b"), preprocess=Preprocess(), checkpoint_sha256="a" * 64),
        precision="int8",
        reference=Reference(executed_by="torch", images="photos", n=10_000, top1=0.9025),
        onnx_parity=Parity(max_abs_difference=1e-6, largest_logit=5.0, same_top1=64, n=64),
        calibration=CalibrationResult(source="photos", images=64, images_sha256="b" * 64, statistic="min-max", seed=0),
        targets={
            name: TargetResult(
                precision="int8",
                artifact=artifact,
                presets={"x86": made("rexnet_100-int8-x86.ort")} if not position else {},
                qparams_equal=True,
            )
            for position, (name, artifact) in enumerate(artifacts.items())
        },
        seconds={"proof": 1.234},
    )


CONTRACT = {
    "precision",
    "artifact",
    "sha256",
    "bytes",
    "accuracy",
    "agreement_with_reference",
    "int8_mac_fraction",
    "float_ops",
    "logit_sqnr_db",
    "latency",
    "executed_by",
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = resources.files("rexnet_export.pipeline").joinpath("report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def unmeasured() -> Report:
    """Nothing ran and nothing was calibrated."""
    why = NotMeasured(reason="no runtime here")
    nothing = FileResult(
        file=made("a.mlpackage").file,
        executed_by=why,
        accuracy=why,
        agreement_with_reference=why,
        logit_sqnr_db=why,
        coverage=why,
        latency=why,
    )
    target = TargetResult(precision="fp16", artifact=nothing, presets={"cpu": nothing}, qparams_equal=why)
    found = report(coreml=nothing)
    return replace(
        found, calibration=None, targets={"coreml": target}, reference=replace(found.reference, top1=UNLABELLED)
    )


@pytest.mark.parametrize("found", [report(ort=made("a.ort"), gpu=made("a.safetensors")), unmeasured()])
def test_reports_follow_the_schema(found: Report, schema: dict[str, Any]) -> None:
    written = json.loads(to_text(found.to_json()))
    jsonschema.validate(written, schema)
    for target in written["targets"].values():
        assert set(target) == CONTRACT | {"qparams_equal", "presets"}
        assert all(set(preset) == CONTRACT - {"precision"} for preset in target["presets"].values())


def test_measured_values_have_the_keys_users_rely_on() -> None:
    target = report(ort=made("a.ort")).to_json()["targets"]["ort"]
    assert set(target["accuracy"]) == {"n", "top1", "reference_top1", "drop", "drop_upper_95"}
    assert target["latency"]["p50_ms"] == 1234.567
    assert target["int8_mac_fraction"] == 0.999
    assert target["float_ops"] == ["softmax (SOFTMAX)"]
    assert target["artifact"] == "a.ort"


def test_unmeasured_values_say_why() -> None:
    written = unmeasured().to_json()
    target = written["targets"]["coreml"]
    skipped = CONTRACT - {"precision", "artifact", "sha256", "bytes"}
    assert all(target[key] == {"not_measured": "no runtime here"} for key in skipped)
    assert written["reference"]["top1"] == {"not_measured": UNLABELLED.reason}
    assert written["calibration"] == {"not_measured": "only INT8 is calibrated"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("extra",), 1),
        (("created",), "yesterday"),
        (("model", "labels"), []),
        (("targets",), {}),
        (("targets", "ort", "extra"), 1),
        (("targets", "ort", "sha256"), "short"),
        (("targets", "ort", "accuracy"), None),
        (("targets", "ort", "accuracy"), {"not_measured": ""}),
        (("targets", "ort", "accuracy", "drop"), 5),
        (("targets", "ort", "latency", "extra"), 1),
        (("targets", "ort", "presets", "x86", "extra"), 1),
        (("targets", "ort", "presets", "x86", "latency"), {}),
    ],
)
def test_the_schema_refuses_anything_else(schema: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    written = report(ort=made("a.ort")).to_json()
    place = written
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, schema)


@pytest.mark.parametrize("key", sorted(CONTRACT | {"qparams_equal", "presets"}))
def test_the_schema_asks_for_every_key(schema: dict[str, Any], key: str) -> None:
    written = report(ort=made("a.ort")).to_json()
    del written["targets"]["ort"][key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, schema)


def test_two_renderings_of_a_report_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    found = report(ort=made("a.ort"))
    first = to_text(found.to_json())
    monkeypatch.setattr(report_module, "datetime", None)  # the clock is not asked again
    assert to_text(found.to_json()) == first
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.created)


def test_infinities_are_refused() -> None:
    found = report(ort=replace(made("a.ort"), logit_sqnr_db=float("inf")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_text(found.to_json())
