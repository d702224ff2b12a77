"""What dashboards read, by their own rules."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sheets import sheet

from rexnet_export.apps.gate.outputs.benchmark_json import bencher, bigger_is_better, smaller_is_better
from rexnet_export.apps.gate.outputs.sheet import Metric

# What github-action-benchmark takes from each entry, and Bencher's published schema in our words.
CUSTOM = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            **{key: {"type": "string", "minLength": 1} for key in ("name", "unit", "range", "extra")},
            "value": {"type": "number"},
        },
    },
}
METRIC = {
    "type": "object",
    "required": ["value"],
    "additionalProperties": False,
    "properties": {key: {"type": "number"} for key in ("value", "lower_value", "upper_value")},
}
MEASURES = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64},
    "additionalProperties": METRIC,
}
BENCHER = {"type": "object", "propertyNames": {"minLength": 1, "maxLength": 1024}, "additionalProperties": MEASURES}


def test_each_file_has_the_measures_of_its_direction() -> None:
    smaller, bigger = json.loads(smaller_is_better(sheet())), json.loads(bigger_is_better(sheet()))
    for content in (smaller, bigger):
        jsonschema.validate(content, CUSTOM)
    extra = "rexnet-gate check: FAIL\nrexnet_100 int8, 10,000 images"
    assert bigger == [{"name": "net ort: top-1", "unit": "%", "value": 93.45, "extra": extra}]
    assert smaller == [
        {"name": "net ort: top-1 error", "unit": "%", "value": 6.55, "extra": extra},
        {"name": "net.ort: latency", "unit": "ms", "value": 12.5, "extra": extra, "range": "12 .. 13.25"},
    ]


def test_bencher_has_all_with_limits_and_time_in_nanoseconds() -> None:
    content = json.loads(bencher(sheet()))
    jsonschema.validate(content, BENCHER)
    assert content == {
        "net ort": {
            "top-1": {"value": 93.45},
            "top-1-error": {"value": 6.55},
            "drop-baseline": {"value": -0.1, "lower_value": -0.3, "upper_value": 0.2},
        },
        "net.ort": {"latency": {"value": 12.5e6, "lower_value": 12e6, "upper_value": 13.25e6}},
    }


def test_without_measures_nothing_old_is_left_to_read() -> None:
    assert json.loads(smaller_is_better(sheet(metrics=()))) == []
    assert json.loads(bencher(sheet(metrics=()))) == {}


@given(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False))
def test_any_name_and_number(name: str, value: float) -> None:
    metric = Metric(subject=name, measure="top-1", value=value, unit="%", better="bigger")
    content = bencher(sheet(metrics=(metric,))).encode()
    jsonschema.validate(json.loads(content), BENCHER)
    jsonschema.validate(json.loads(bigger_is_better(sheet(metrics=(metric,))).encode()), CUSTOM)


def test_a_name_longer_than_bencher_takes_is_cut() -> None:
    metric = Metric(subject="x" * 2000, measure="top-1", value=1, unit="%", better="bigger")
    jsonschema.validate(json.loads(bencher(sheet(metrics=(metric,)))), BENCHER)


def test_no_number_is_no_json() -> None:
    for value in (float("nan"), float("inf")):
        metric = Metric(subject="net", measure="top-1", value=value, unit="%", better="bigger")
        with pytest.raises(ValueError, match="JSON"):
            bencher(sheet(metrics=(metric,)))
