"""JUnit XML, read back with junitparser and with a plain XML parser."""

from xml.etree import ElementTree as ET

import pytest
from junitparser import Error, Failure, JUnitXml, Properties, Skipped
from sheets import HOSTILE, STATUSES, row, sheet

from rexnet_export.apps.gate.outputs.junit import junit
from rexnet_export.apps.gate.words import Status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("passed", None),
        ("noted", None),
        ("failed", Failure),
        ("error", Error),
        ("undecided", Skipped),
        ("skipped", Skipped),
    ],
)
def test_what_a_status_is(status: Status, kind: type | None) -> None:
    (suite,) = JUnitXml.fromstring(junit(sheet(row(status, message="why"))).encode())
    (case,) = suite
    assert (case.classname, case.name) == ("ort x86", status)
    assert [type(result) for result in case.result] == ([] if kind is None else [kind])
    assert [(result.message, result.type) for result in case.result] == (
        [] if kind is None else [("why", status.upper())]
    )
    assert case.is_passed == (kind is None)


def test_counts_and_numbers() -> None:
    whole = JUnitXml.fromstring(junit(sheet(notes=("another processor",))).encode())
    assert (whole.tests, whole.failures, whole.errors, whole.skipped) == (len(STATUSES), 1, 1, 2)
    (suite,) = whole
    assert suite.name == "rexnet-gate check: rexnet_100 int8, 10,000 images"
    assert suite.timestamp == "2026-11-24T12:00:00+00:00"
    assert {p.name: p.value for p in suite.properties()} == {
        "verdict": "FAIL",
        "reason": "ort x86 is worse",
        "reason 1": "ort x86 noted: all is well",
        "reason 2": "ort x86 failed: all is well",
        "reason 3": "ort x86 error: all is well",
        "reason 4": "ort x86 undecided: all is well",
        "reason 5": "ort x86 skipped: all is well",
        "note 1": "another processor",
    }
    for case, status in zip(suite, STATUSES, strict=True):
        (properties,) = case.iterchildren(Properties)
        assert {p.name: p.value for p in properties} == {
            "verdict": status.upper(),
            "top-1": "93.45%",
            "drop": "+0.01",
        }


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_xml(text: str) -> None:
    for status in STATUSES:
        content = junit(sheet(row(status, target=text, check=text, message=text), title=text, notes=(text,)))
        (case,) = ET.fromstring(content.encode()).iter("testcase")  # noqa: S314 - our own
        shown = "".join("\ufffd" if character in "\x1b\x00\x07\ud83d" else character for character in text)
        found = next((child.get("message") for child in case if child.get("message")), None)
        assert case.get("classname") == shown
        assert found in {None, shown}
        assert found is not None or status in {"passed", "noted"}
