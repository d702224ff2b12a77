"""Measurements as a person reads them."""

from rexnet_export.apps.shared.text import unmeasured_lines
from rexnet_export.pipeline.core.records import NotMeasured


def test_every_reason_is_said_once_with_all_that_it_is_of() -> None:
    cold, far = NotMeasured(reason="it is cold"), NotMeasured(reason="it is far")
    values = [("a", cold), ("b", 1.0), ("c", far), ("d", NotMeasured(reason="it is cold")), ("a", cold), ("e", None)]
    assert list(unmeasured_lines(values)) == ["a, d: it is cold", "c: it is far"]
