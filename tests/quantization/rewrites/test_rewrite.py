from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.rewrites import ChannelGrouping, ChannelScaling, Rewrite
from rexnet_export.quantization.table.table import Calibration, QuantTable
from rexnet_export.quantization.table.table_file import parse_table, table_text

SCALE: dict[str, Any] = {"rule": "scale", "tensor": "t", "factors": [0.5, 1.0, 4.0]}
GROUP: dict[str, Any] = {"rule": "group", "tensor": "t", "order": [2, 0, 1], "sizes": [1, 2]}
TABLE_SCHEMA = json.loads((resources.files("rexnet_export.quantization.table") / "table.schema.json").read_text())
TABLE = QuantTable(
    model_sha256="a" * 64,
    calibration=Calibration(images_sha256="b" * 64, images=1, statistic="min-max", seed=0),
    tensors={},
)

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
    table = replace(TABLE, rewrites=(rewrite,))
    jsonschema.validate(json.loads(table_text(table)), TABLE_SCHEMA)
    assert parse_table(table_text(table)) == table


REFUSED = [
    (None, r"rewrites\[0\] holds None"),
    ({**SCALE, "rule": "stretch"}, r"rewrites\[0\] holds an object: .*'stretch'.*'scale', 'group'"),
    ({**SCALE, "order": [0]}, r"rewrites\[0\] has unknown order"),
    ({**SCALE, "tensor": ""}, r"rewrites\[0\]\.tensor holds"),
    ({**SCALE, "factors": []}, r"rewrites\[0\]\.factors holds a list: .* at least 1"),
    ({**SCALE, "factors": [1.0, 0.0]}, r"rewrites\[0\]\.factors\[1\] holds 0\.0: .* greater than 0"),
    ({**SCALE, "factors": ["1"]}, r"rewrites\[0\]\.factors\[0\] holds '1'"),
    ({key: value for key, value in GROUP.items() if key != "sizes"}, r"rewrites\[0\] lacks sizes"),
    ({**GROUP, "tensor": 3}, r"rewrites\[0\]\.tensor holds"),
    ({**GROUP, "order": [0, 0, 1]}, r"rewrites\[0\] order is not a permutation of 0 to 2"),
    ({**GROUP, "order": [0, 1, -1]}, r"rewrites\[0\]\.order\[2\] holds -1"),
    ({**GROUP, "order": [0, 1, True]}, r"rewrites\[0\]\.order\[2\] holds True"),
    ({**GROUP, "sizes": [3, 0]}, r"rewrites\[0\]\.sizes\[1\] holds 0"),
    ({**GROUP, "sizes": [1, 1]}, r"rewrites\[0\] sizes add up to 2, not to the 3 channels"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_damaged_rewrite_is_refused_by_name(value: object, message: str) -> None:
    text = table_text(TABLE).replace('"rewrites": [\n\n]', f'"rewrites": [{json.dumps(value)}]')
    with pytest.raises(ConversionError, match=message):
        parse_table(text)
