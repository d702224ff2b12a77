from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rexnet_export.pipeline.artifact.target import require_int8
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Coverage, StoredFile
from rexnet_export.pipeline.proof.read_back import differences, rounded_to_float16
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import Calibration, QuantTable, TensorEntry

THIRD = 1 / 3
HALF_OF_THIRD = float(np.float16(THIRD))
PARAMS = {
    "stem": QuantParams(scale=(THIRD,), zero_point=(-3,)),
    "stem.weight": QuantParams(scale=(0.5, THIRD), zero_point=(0, 0), axis=0),
    "stem.bias": QuantParams(scale=(0.25, 0.5), zero_point=(0, 0), axis=0, bits=32),
}
TABLE = QuantTable(
    model_sha256="0" * 64,
    calibration=Calibration(images_sha256="0" * 64, images=1, statistic="min-max", seed=0),
    tensors={
        "stem": TensorEntry(decision="observed", params=PARAMS["stem"], observed=(0.0, 1.0), statistic="min-max"),
        "stem.weight": TensorEntry(decision="weights", params=PARAMS["stem.weight"]),
        "stem.bias": TensorEntry(decision="derived", params=PARAMS["stem.bias"], source="stem"),
        "stem.fused": TensorEntry(decision="fused", source="stem"),
    },
)


def test_the_tables_own_parameters_do_not_differ() -> None:
    assert differences(TABLE, PARAMS) == rounded_to_float16(TABLE, PARAMS) == []


def test_biases_count_where_a_format_stores_integers() -> None:
    without = {name: params for name, params in PARAMS.items() if name != "stem.bias"}
    assert differences(TABLE, without) == []
    other = {"other.bias": PARAMS["stem.bias"]}
    assert differences(TABLE, without | other) == ["stem.bias"]


def test_a_missing_scale_or_zero_point_differs() -> None:
    stored = PARAMS | {"stem": replace(PARAMS["stem"], zero_point=(-2,))}
    del stored["stem.weight"]
    assert differences(TABLE, stored) == ["stem", "stem.weight"]


def test_what_is_inside_an_operator_may_be_missing_and_may_not_be_another() -> None:
    without = {name: params for name, params in PARAMS.items() if name != "stem"}
    assert differences(TABLE, without) == ["stem"]
    assert differences(TABLE, without, {"stem": "silu"}) == []
    other = {"stem": replace(PARAMS["stem"], zero_point=(-2,))}
    assert differences(TABLE, without | other, {"stem": "silu"}) == ["stem"]


def test_scales_rounded_to_float16_are_counted_not_refused() -> None:
    stored = PARAMS | {
        "stem": replace(PARAMS["stem"], scale=(HALF_OF_THIRD,)),
        "stem.weight": replace(PARAMS["stem.weight"], scale=(0.5, HALF_OF_THIRD)),
    }
    assert differences(TABLE, stored) == []
    assert rounded_to_float16(TABLE, stored) == ["stem", "stem.weight"]


@pytest.mark.parametrize("scale", [float(np.nextafter(np.float16(THIRD), np.float16(1))), HALF_OF_THIRD * 1.0001])
def test_any_other_number_than_the_nearest_float16_differs(scale: float) -> None:
    stored = PARAMS | {"stem": replace(PARAMS["stem"], scale=(scale,))}
    assert differences(TABLE, stored) == ["stem"]
    assert rounded_to_float16(TABLE, stored) == []


@pytest.mark.parametrize(("int8_macs", "total_macs"), [(99, 100), (0, 100), (0, 0)])
def test_only_what_multiplies_in_int8_is_called_int8(int8_macs: int, total_macs: int) -> None:
    file = StoredFile(path=Path("net-int8.tflite"), sha256="0" * 64, bytes=1)
    coverage = Coverage(int8_macs=int8_macs, total_macs=total_macs, float_ops=("stem (CONV_2D)",))
    with pytest.raises(ConversionError, match=r"net-int8.tflite is called INT8, but .*stem \(CONV_2D\)"):
        require_int8(Artifact(target="tflite", precision="int8", file=file), coverage, ())
    require_int8(Artifact(target="tflite", precision="fp16", file=file), coverage, ())
    whole = replace(coverage, int8_macs=1, total_macs=1)
    require_int8(Artifact(target="tflite", precision="int8", file=file), whole, ())


def test_layers_may_be_float_that_were_to_be() -> None:
    artifact = Artifact(
        target="ort", precision="int8", file=StoredFile(path=Path("net-int8.ort"), sha256="0" * 64, bytes=1)
    )
    coverage = Coverage(
        int8_macs=60, total_macs=100, float_ops=("stem (Conv)",), float_layers=("stem.weight", "logits.weight")
    )
    require_int8(artifact, coverage, ("stem", "stem.weight", "logits.weight"))
    with pytest.raises(ConversionError, match=r"40 of its 100 multiply-accumulates are float \(logits.weight"):
        require_int8(artifact, coverage, ("stem", "stem.weight"))
    with pytest.raises(ConversionError, match="is called INT8, but 100 of its 100"):
        require_int8(artifact, replace(coverage, int8_macs=0), ("stem.weight", "logits.weight"))
    with pytest.raises(ConversionError, match="is called INT8, but 40 of its 100"):
        require_int8(artifact, replace(coverage, float_layers=()), ("stem.weight", "logits.weight"))


def test_what_is_to_be_float_must_not_be_integers() -> None:
    left = TensorEntry(decision="float", reason="a test")
    table = replace(TABLE, tensors=TABLE.tensors | {"stem": left})
    assert differences(table, PARAMS) == ["stem"]
    assert differences(table, {name: params for name, params in PARAMS.items() if name != "stem"}) == []
