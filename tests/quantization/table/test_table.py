from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table import table_file
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.rewrites import ChannelGrouping, ChannelScaling
from rexnet_export.quantization.table.rounding_mask import mask_text
from rexnet_export.quantization.table.table import Calibration, QuantTable, TensorEntry
from rexnet_export.quantization.table.table_file import load_table, parse_table, save_table, table_text

SCALE = QuantParams(scale=(0.1,), zero_point=(-3,))
CHANNELS = QuantParams(scale=(0.5, 2.0**-24), zero_point=(0, 0), axis=0)
SMALL = QuantTable(
    model_sha256="a" * 64,
    calibration=Calibration(images_sha256="b" * 64, images=3, statistic="min-max", seed=0),
    tensors={
        "x": TensorEntry(decision="observed", params=SCALE, observed=(-1 / 3, 1e-45), statistic="min-max"),
        "w": TensorEntry(decision="weights", params=CHANNELS),
        "w.rounded": TensorEntry(decision="weights", params=CHANNELS, rounding=mask_text(np.array([[True], [False]]))),
        "b": TensorEntry(decision="derived", params=replace(CHANNELS, bits=32), source="x"),
        "b.corrected": TensorEntry(
            decision="derived", params=replace(CHANNELS, bits=32), source="x", correction=(-0.75, 1 / 3)
        ),
        "s": TensorEntry(decision="fixed", params=QuantParams(scale=(1 / 256,), zero_point=(-128,))),
        "p": TensorEntry(decision="shared", params=SCALE, source="x"),
        "c": TensorEntry(decision="fused", source="s"),
        "f": TensorEntry(decision="float", reason="asked for"),
    },
    rewrites=(
        ChannelScaling(tensor="x", factors=(1 / 3, 1.0, 2.0**40)),
        ChannelGrouping(tensor="s", order=(2, 0, 1), sizes=(1, 2)),
    ),
)


def schema() -> dict[str, object]:
    found: dict[str, object] = json.loads(
        (resources.files("rexnet_export.quantization.table") / "table.schema.json").read_text()
    )
    return found


def test_a_table_reads_back_exactly(v1: SimpleNamespace, tmp_path: Path) -> None:
    for table in (SMALL, v1.table):
        save_table(table, tmp_path / "qparams.json")
        assert load_table(tmp_path / "qparams.json") == table
    assert [path.name for path in tmp_path.iterdir()] == ["qparams.json"]


def test_the_same_table_is_the_same_bytes_whatever_the_order() -> None:
    turned = replace(SMALL, tensors=dict(reversed(SMALL.tensors.items())))
    assert table_text(turned) == table_text(SMALL)
    assert list(json.loads(table_text(SMALL))["tensors"]) == sorted(SMALL.tensors)


def test_saved_tables_follow_the_published_schema(v1: SimpleNamespace) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    small = {name: e for name, e in v1.table.tensors.items() if not e.params or len(e.params.scale) < 12}
    assert {entry.decision for entry in small.values()} > {"weights", "derived", "shared"}
    for table in (SMALL, replace(v1.table, tensors=small)):
        jsonschema.validate(json.loads(table_text(table)), schema())


def damaged(*path: str | int, value: object = None, remove: bool = False) -> str:
    root: Any = json.loads(table_text(SMALL))
    place = root
    for step in path[:-1]:
        place = place[step]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(root)


REFUSED = [
    (damaged("schema_version", value=1), "schema_version holds 1: .*2"),
    (damaged("schema_version", value=True), "schema_version holds True"),
    (damaged("notes", value="x"), "it has unknown notes"),
    (damaged("rewrites", remove=True), "it lacks rewrites"),
    (damaged("rewrites", value={}), "rewrites holds an object: .* array"),
    (damaged("calibration", remove=True), "it lacks calibration"),
    (damaged("calibration", "images", value=0), r"calibration\.images holds 0: .* greater than or equal to 1"),
    (damaged("calibration", "images", value=True), r"calibration\.images holds True"),
    (damaged("calibration", "seed", value=1.5), r"calibration\.seed holds 1\.5"),
    (damaged("calibration", "statistic", value=""), r"calibration\.statistic holds ''"),
    (damaged("model_sha256", value="A" * 64), "model_sha256 holds 'AAA.* pattern"),
    (damaged("tensors", value=[]), "tensors holds a list"),
    (damaged("tensors", "x", value=None), r"tensors\.x holds None"),
    (damaged("tensors", "x", "decision", value="guessed"), r"tensors\.x holds an object: .*'guessed'.*'observed'"),
    (damaged("tensors", "x", "reason", value="r"), r"tensors\.x has unknown reason"),
    (damaged("tensors", "x", "observed", remove=True), r"tensors\.x lacks observed"),
    (damaged("tensors", "x", "observed", value=[2, 1]), r"tensors\.x\.observed \[2\.0, 1\.0\] is not \[low, high\]"),
    (damaged("tensors", "x", "observed", value=[2]), r"tensors\.x\.observed is too short"),
    (damaged("tensors", "x", "params", "offset", value=0), r"tensors\.x\.params has unknown offset"),
    (damaged("tensors", "x", "params", "bits", value=16), r"tensors\.x\.params\.bits holds 16: .* 8"),
    (damaged("tensors", "x", "params", "axis", value=0), r"tensors\.x\.params\.axis holds 0"),
    (damaged("tensors", "x", "params", "scale", value=[]), r"tensors\.x\.params\.scale is too short"),
    (
        damaged("tensors", "x", "params", "scale", value=[0.1, 0.1]),
        r"tensors\.x\.params\.scale holds a list: .*item",
    ),
    (damaged("tensors", "x", "params", "scale", value=[0.0]), r"tensors\.x\.params\.scale\[0\] holds 0\.0: .* greater"),
    (damaged("tensors", "x", "params", "scale", value=[-0.1]), r"tensors\.x\.params\.scale\[0\] holds -0\.1"),
    (damaged("tensors", "x", "params", "scale", value=["0.1"]), r"tensors\.x\.params\.scale\[0\] holds '0\.1'"),
    (damaged("tensors", "x", "params", "zero_point", value=[-129]), r"tensors\.x\.params\.zero_point\[0\] holds -129"),
    (damaged("tensors", "x", "params", "zero_point", value=[128]), r"tensors\.x\.params\.zero_point\[0\] holds 128"),
    (damaged("tensors", "w", "params", "zero_point", 1, value=1), r"tensors\.w\.params\.zero_point\[1\] holds 1"),
    (damaged("tensors", "w", "params", "zero_point", value=[0]), r"tensors\.w\.params has 2 scales and 1 zero points"),
    (damaged("tensors", "w", "params", "scale", value=[]), r"tensors\.w\.params\.scale holds a list: .* at least 1"),
    (damaged("tensors", "w", "params", "axis", value=None), r"tensors\.w\.params\.axis holds None"),
    (damaged("tensors", "b", "params", "bits", value=8), r"tensors\.b\.params\.bits holds 8: .* 32"),
    (damaged("tensors", "x", "correction", value=[0.1]), r"tensors\.x has unknown correction"),
    (
        damaged("tensors", "b.corrected", "correction", value=[0.1]),
        r"tensors\.b\.corrected has 2 scales but corrects 1 channels",
    ),
    (
        damaged("tensors", "b.corrected", "correction", 0, value="0"),
        r"tensors\.b\.corrected\.correction\[0\] holds",
    ),
    (damaged("tensors", "b.corrected", "correction", value=[]), r"tensors\.b\.corrected .* corrects 0 channels"),
    (damaged("tensors", "b", "rounding", value="eJxrAAAAgQCB"), r"tensors\.b has unknown rounding"),
    (damaged("tensors", "w.rounded", "rounding", value=[1]), r"tensors\.w\.rounded\.rounding holds a list"),
    (damaged("tensors", "w.rounded", "rounding", value="eJxr"), r"tensors\.w\.rounded\.rounding .*cut short"),
    (damaged("tensors", "b", "source", value="nowhere"), "b refers to 'nowhere'"),
    (damaged("rewrites", 1, "order", 0, value=2**31), r"order\[0\] holds 2147483648: .* to 2147483647"),
    (damaged("rewrites", 1, "sizes", 0, value=2**31), r"sizes\[0\] holds 2147483648: .* to 2147483647"),
    (damaged("rewrites", 1, "sizes", 0, value=0), r"sizes\[0\] holds 0"),
    (damaged("rewrites", 1, "order", 0, value=1), "order is not a permutation of 0 to 2"),
    (damaged("rewrites", 1, "sizes", 0, value=2), "sizes add up to 4, not to the 3 channels"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_damaged_table_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        parse_table(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_none_are_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "qparams.json"
    path.write_text(table_text(SMALL).replace("[0.1]", f"[{number}]"))
    with pytest.raises(ConversionError, match=r"qparams\.json"):
        load_table(path)


def test_a_key_written_twice_is_refused() -> None:
    text = table_text(SMALL)
    with pytest.raises(ConversionError, match="seed is there twice"):
        parse_table(text.replace('"seed": 0', '"seed": 0, "seed": 1'))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_what_is_no_table_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "qparams.json"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"qparams\.json") as caught:
        load_table(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unwritable_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"cannot read .*nothing\.json: No such file"):
        load_table(tmp_path / "nothing.json")
    with pytest.raises(ConversionError, match=r"cannot write .*qparams\.json: No such file"):
        save_table(SMALL, tmp_path / "nowhere" / "qparams.json")


def test_a_range_of_one_value_is_a_range(tmp_path: Path) -> None:
    still = replace(SMALL, tensors={**SMALL.tensors, "x": replace(SMALL.tensors["x"], observed=(0.5, 0.5))})
    save_table(still, tmp_path / "qparams.json")
    assert load_table(tmp_path / "qparams.json") == still


def test_a_number_json_cannot_hold_is_never_written(tmp_path: Path) -> None:
    broken = replace(SMALL, tensors={"x": replace(SMALL.tensors["x"], observed=(math.nan, float(np.inf)))})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_table(broken, tmp_path / "qparams.json")
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_is_stored_as_rounded_multiples_of_its_scales_corrected_where_it_has_a_correction() -> None:
    real = np.array([2.6, 3 * 2.0**-24], np.float32)
    assert SMALL.integers("b", real).tolist() == [5, 3]
    assert SMALL.integers("b.corrected", real).tolist() == [4, 3 + round(2**24 / 3)]
    assert SMALL.integers("w", real[:, None]).tolist() == [[5], [3]]


@pytest.mark.parametrize(
    ("real", "integer", "other"),
    [(2.6, 5, 6), (2.4, 5, 4), (-2.6, -5, -6), (-2.4, -5, -4), (2.25, 4, 5), (63.4, 127, 126), (63.6, 127, 127)],
)
def test_a_marked_weight_becomes_the_second_nearest_integer(real: float, integer: int, other: int) -> None:
    weights = np.array([[real], [0.0]], np.float32)
    assert SMALL.integers("w", weights).tolist() == [[integer], [0]]
    assert SMALL.integers("w.rounded", weights).tolist() == [[other], [0]]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"w\.rounded\.rounding is not a mask of 18"):
        SMALL.integers("w.rounded", np.zeros((2, 9)))


def test_a_parameter_without_integers_or_of_another_shape_is_refused() -> None:
    with pytest.raises(ConversionError, match="f has no integers"):
        SMALL.integers("f", np.zeros(2))
    with pytest.raises(ConversionError, match="ghost has no integers"):
        SMALL.integers("ghost", np.zeros(2))
    with pytest.raises(ConversionError, match=r"w \(3,\) has 2 scales along axis 0"):
        SMALL.integers("w", np.zeros(3))


def test_a_parameter_needs_integers_in_the_table() -> None:
    odd = replace(SMALL, tensors={"w": TensorEntry(decision="weights", params=SCALE)})
    with pytest.raises(ConversionError, match=r"w \(1,\) has 1 scales along axis None"):
        odd.integers("w", np.zeros(1))
    with pytest.raises(ConversionError, match=r"w \(\) has 2 scales along axis 0"):
        SMALL.integers("w", np.zeros(()))
    with pytest.raises(ConversionError, match=r"w \(3, 1\) has 2 scales along axis 0"):
        SMALL.integers("w", np.zeros((3, 1)))


def test_what_is_stored_must_be_the_tables_all_and_no_more() -> None:
    stored = {name: entry.params for name, entry in SMALL.tensors.items() if entry.params}
    SMALL.require_stored(stored)
    for wrong in (stored | {"f": SCALE}, stored | {"x": CHANNELS}, {n: p for n, p in stored.items() if n != "x"}):
        with pytest.raises(ConversionError, match="report this model"):
            SMALL.require_stored(wrong)


def test_at_most_256_mib_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(table_file, "read_untrusted", lambda _, most: asked.append(most) or b"")
    with pytest.raises(ConversionError, match="it is no JSON"):
        load_table(tmp_path / "qparams.json")
    assert asked == [256 * 2**20]


def test_what_stays_in_float_is_listed_in_order(v1: SimpleNamespace) -> None:
    assert v1.table.float_tensors == ()
    kept = TensorEntry(decision="float", reason="it hurts")
    mixed = replace(v1.table, tensors=v1.table.tensors | {"stem.silu": kept, "logits": kept})
    assert mixed.float_tensors == ("logits", "stem.silu")
