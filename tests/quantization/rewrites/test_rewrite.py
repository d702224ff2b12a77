from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.rewrites import (
    ChannelGrouping,
    ChannelScaling,
    Rewrite,
    parse_rewrite,
    rewrite_fields,
)

SCALE: dict[str, Any] = {"rule": "scale", "tensor": "t", "factors": [0.5, 1.0, 4.0]}
GROUP: dict[str, Any] = {"rule": "group", "tensor": "t", "order": [2, 0, 1], "sizes": [1, 2]}
TABLE_SCHEMA = json.loads((resources.files("rexnet_export.quantization.table") / "table.schema.json").read_text())
REWRITE_SCHEMA = {"$ref": "#/$defs/rewrite", "$defs": TABLE_SCHEMA["$defs"]}

names = st.text(min_size=1)
factors = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
scalings = st.builds(ChannelScaling, tensor=names, factors=st.lists(factors, min_size=1).map(tuple))


@st.composite
def groupings(draw: st.DrawFn) -> ChannelGrouping:
    sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    order = tuple(draw(st.permutations(range(sum(sizes)))))
    return ChannelGrouping(tensor=draw(names), order=order, sizes=sizes)


@given(st.one_of(scalings, groupings()))
def test_what_is_written_reads_back_exactly_and_follows_the_schema(rewrite: Rewrite) -> None:
    fields = json.loads(json.dumps(rewrite_fields(rewrite), allow_nan=False))
    jsonschema.validate(fields, REWRITE_SCHEMA)
    assert parse_rewrite(fields, "here") == rewrite


REFUSED = [
    (None, "here has rule None; known are scale, group"),
    ({**SCALE, "rule": "stretch"}, "here has rule 'stretch'"),
    ({**SCALE, "order": [0]}, "here has unknown order"),
    ({**SCALE, "tensor": ""}, r"here\.tensor is not a text"),
    ({**SCALE, "factors": []}, r"here\.factors is not a list"),
    ({**SCALE, "factors": [1.0, 0.0]}, r"here\.factors holds 0\.0; factors are above zero"),
    ({**SCALE, "factors": ["1"]}, r"here\.factors holds '1'"),
    ({key: value for key, value in GROUP.items() if key != "sizes"}, "here lacks sizes"),
    ({**GROUP, "tensor": 3}, r"here\.tensor is not a text"),
    ({**GROUP, "order": [0, 0, 1]}, r"here\.order is not a permutation of 0 to 2"),
    ({**GROUP, "order": [0, 1, -1]}, r"here\.order holds -1"),
    ({**GROUP, "order": [0, 1, True]}, r"here\.order holds True"),
    ({**GROUP, "sizes": [3, 0]}, r"here\.sizes holds 0"),
    ({**GROUP, "sizes": [1, 1]}, r"here\.sizes add up to 2, not to the 3 channels"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_damaged_rewrite_is_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        parse_rewrite(value, "here")
