"""A table edited by hand: what depends on an edit follows, what does not fit is refused by name."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.scheme.refit import refitted
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

OTHER = QuantParams(scale=(0.25,), zero_point=(3,))


def edited(table: QuantTable, name: str, change: Callable[[TensorEntry], TensorEntry]) -> QuantTable:
    return replace(table, tensors={**table.tensors, name: change(table.tensors[name])})


def with_params(table: QuantTable, name: str, params: QuantParams) -> QuantTable:
    return edited(table, name, lambda entry: replace(entry, params=params))


def named(table: QuantTable, decision: str) -> str:
    """The last tensor decided so: one that others depend on less."""
    return [name for name, entry in table.tensors.items() if entry.decision == decision][-1]


def test_an_unedited_table_stays_as_it_is(either: SimpleNamespace) -> None:
    assert refitted(either.model, either.table) == either.table


def test_what_depends_on_an_edited_scale_follows(v1: SimpleNamespace) -> None:
    flat = named(v1.table, "shared")
    source = str(v1.table.tensors[flat].source)
    found = refitted(v1.model, with_params(v1.table, source, OTHER)).tensors
    assert found[source].params == OTHER
    assert found[flat].params == OTHER
    weights, bias = found["logits.weight"].params, found["logits.bias"].params
    assert weights
    assert bias
    np.testing.assert_array_equal(bias.scale, np.float32(0.25) * np.float32(weights.scale))


@pytest.mark.parametrize("decision", ["fixed", "fused"])
def test_what_an_operator_decides_cannot_be_edited(v1: SimpleNamespace, decision: str) -> None:
    name = named(v1.table, decision)
    entry = TensorEntry(decision="observed", params=OTHER, observed=(0, 1), statistic="by hand")
    with pytest.raises(ConversionError, match=f"{name} do not fit"):
        refitted(v1.model, edited(v1.table, name, lambda _: entry))


def test_a_fixed_scale_is_the_operators(v1: SimpleNamespace) -> None:
    name = named(v1.table, "fixed")
    with pytest.raises(ConversionError, match=f"{name} do not fit"):
        refitted(v1.model, with_params(v1.table, name, OTHER))


def test_missing_and_unknown_tensors_are_named(v1: SimpleNamespace) -> None:
    tensors = dict(v1.table.tensors)
    tensors["features.99.project"] = tensors.pop("pool")
    with pytest.raises(ConversionError, match=r"features\.99\.project, pool are not in both"):
        refitted(v1.model, replace(v1.table, tensors=tensors))


def test_the_number_of_channels_is_the_weights(v1: SimpleNamespace) -> None:
    params = v1.table.tensors["logits.weight"].params
    shorter = replace(params, scale=params.scale[1:], zero_point=params.zero_point[1:])
    with pytest.raises(ConversionError, match=r"logits\.weight do not fit"):
        refitted(v1.model, with_params(v1.table, "logits.weight", shorter))


def test_scales_must_be_float16_numbers(v1: SimpleNamespace) -> None:
    with pytest.raises(ConversionError, match="pool have scales that are no float16 numbers"):
        refitted(v1.model, with_params(v1.table, "pool", QuantParams(scale=(0.1,), zero_point=(0,))))


def test_a_table_of_another_network_names_tensors(v1: SimpleNamespace, lite: SimpleNamespace) -> None:
    with pytest.raises(ConversionError, match=r"features\..* and \d+ more are not in both"):
        refitted(v1.model, lite.table)


@pytest.mark.parametrize(
    ("missing", "said"), [(3, r"^\S+, \S+, \S+ are not"), (4, r"^\S+, \S+, \S+ and 1 more are not")]
)
def test_three_tensors_are_named(v1: SimpleNamespace, missing: int, said: str) -> None:
    tensors = dict(list(v1.table.tensors.items())[missing:])
    with pytest.raises(ConversionError, match=said):
        refitted(v1.model, replace(v1.table, tensors=tensors))


def test_what_stays_in_float_fits(v1: SimpleNamespace) -> None:
    kept = TensorEntry(decision="float", reason="asked for")
    names = ("logits.weight", "logits.bias", named(v1.table, "fixed"))
    table = replace(v1.table, tensors={**v1.table.tensors, **dict.fromkeys(names, kept)})
    found = refitted(v1.model, table).tensors
    assert [found[name] for name in names] == [kept] * 3


@pytest.mark.parametrize("change", [{"axis": 1}, {"axis": None}])
def test_weights_have_a_scale_for_each_output_channel(v1: SimpleNamespace, change: dict[str, int | None]) -> None:
    params = replace(v1.table.tensors["logits.weight"].params, **change)
    with pytest.raises(ConversionError, match=r"logits\.weight do not fit"):
        refitted(v1.model, with_params(v1.table, "logits.weight", params))


def test_what_is_shared_with_another_tensor_does_not_fit(v1: SimpleNamespace) -> None:
    flat = named(v1.table, "shared")
    with pytest.raises(ConversionError, match=f"{flat} do not fit"):
        refitted(v1.model, edited(v1.table, flat, lambda entry: replace(entry, source="stem.silu")))


def test_a_table_of_other_weights_is_refused(v1: SimpleNamespace) -> None:
    with pytest.raises(ConversionError, match="belongs to float graph aaaaaaaaaaaa"):
        refitted(v1.model, replace(v1.table, model_sha256="a" * 64))
