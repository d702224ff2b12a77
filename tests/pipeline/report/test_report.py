from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from report_samples import LEFT, SEARCHED, UNLABELLED, made, report

from rexnet_export.pipeline.core import json as json_module
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.proof.results import FileResult, TargetResult
from rexnet_export.pipeline.report.report import Report
from rexnet_export.pipeline.report.report_json import ReportJson

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
    "float_latency",
    "executed_by",
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = resources.files("rexnet_export.pipeline.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def unmeasured() -> Report:
    """Nothing ran and nothing was calibrated."""
    why = NotMeasured(reason="no runtime here")
    nothing = FileResult(
        file=made("a.mlpackage").file,
        executed_by=why,
        outputs=why,
        accuracy=why,
        agreement_with_reference=why,
        logit_sqnr_db=why,
        coverage=why,
        latency=why,
        float_latency=why,
    )
    target = TargetResult(precision="fp16", artifact=nothing, presets={"cpu": nothing}, qparams_read=why)
    found = report(coreml=nothing)
    return replace(
        found, calibration=None, targets={"coreml": target}, reference=replace(found.reference, top1=UNLABELLED)
    )


def searched() -> Report:
    return replace(report(ort=made("a.ort")), quality=SEARCHED, mixed=LEFT)


@pytest.mark.parametrize("found", [report(ort=made("a.ort"), gpu=made("a.safetensors")), unmeasured(), searched()])
def test_reports_follow_the_schema(found: Report, schema: dict[str, Any]) -> None:
    written = json.loads(to_text(found.to_json()))
    jsonschema.validate(written, schema)
    for target in written["targets"].values():
        assert set(target) == CONTRACT | {"qparams_equal", "qparams_read", "presets"}
        assert all(set(preset) == CONTRACT - {"precision"} for preset in target["presets"].values())
    assert ReportJson.parse(to_text(written)).to_json() == written


def test_measured_values_have_the_keys_users_rely_on() -> None:
    target = report(ort=made("a.ort")).to_json()["targets"]["ort"]
    assert set(target["accuracy"]) == {"n", "top1", "reference_top1", "drop", "drop_lower_95", "drop_upper_95"}
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


@pytest.mark.parametrize("key", sorted(CONTRACT | {"qparams_equal", "qparams_read", "presets"}))
def test_the_schema_asks_for_every_key(schema: dict[str, Any], key: str) -> None:
    written = report(ort=made("a.ort")).to_json()
    del written["targets"]["ort"][key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, schema)


def test_two_renderings_of_a_report_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    found = report(ort=made("a.ort"))
    first = to_text(found.to_json())
    monkeypatch.setattr(json_module, "datetime", None)  # the clock is not asked again
    assert to_text(found.to_json()) == first
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.created)


def test_infinities_are_refused() -> None:
    found = report(ort=replace(made("a.ort"), logit_sqnr_db=float("inf")))
    with pytest.raises(ValueError, match="finite"):
        found.to_json()


def test_what_stays_in_float_is_told_with_its_share_and_reason() -> None:
    found = searched().to_json()["mixed_precision"]
    assert found["images"] == 200
    assert found["int8"] == {"changed": 15, "expected": 0.0592}
    assert found["mixed"] == {"changed": 1, "expected": 0.0043}
    assert found["float_mac_fraction"] == pytest.approx(0.1)
    assert [layer["name"] for layer in found["float_layers"]] == ["stem", "features.3.expand"]
    assert all(layer["reason"] for layer in found["float_layers"])
