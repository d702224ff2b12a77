"""Measurements as a person reads them."""

import pytest

from rexnet_export.apps.shared.text import rate, unmeasured_lines
from rexnet_export.pipeline.core.records import NotMeasured


def test_every_reason_is_said_once_with_all_that_it_is_of() -> None:
    cold, far = NotMeasured(reason="it is cold"), NotMeasured(reason="it is far")
    values = [("a", cold), ("b", 1.0), ("c", far), ("d", NotMeasured(reason="it is cold")), ("a", cold), ("e", None)]
    assert list(unmeasured_lines(values)) == ["a, d: it is cold", "c: it is far"]


@pytest.mark.parametrize(
    ("per_second", "said"), [(0.4, "2.5 s/step"), (0.99, "1.0 s/step"), (1.0, "1 steps/s"), (1234.0, "1,234 steps/s")]
)
def test_no_rate_is_nothing(per_second: float, said: str) -> None:
    assert rate(per_second, "steps") == said
