from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.artifact.metadata import card_from, describe, float_tensors_from
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import CROP_MODES, INTERPOLATIONS, Feature, ModelCard, Preprocess

CARD = ModelCard(
    name="rexnet_100",
    labels=("T-shirt/top", "Sac à dos, 袋", 'a "quoted"\nline'),
    preprocess=Preprocess(size=64),
    checkpoint_sha256="ab" * 32,
)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
cards = st.builds(
    ModelCard,
    name=st.text(),
    labels=st.lists(st.text()).map(tuple),
    preprocess=st.builds(
        Preprocess,
        size=st.one_of(st.integers(1, 9999), st.tuples(st.integers(1, 9999), st.integers(1, 9999))),
        crop_mode=st.sampled_from(CROP_MODES),
        crop_ratio=st.floats(min_value=0.01, max_value=1),
        interpolation=st.sampled_from(INTERPOLATIONS),
        mean=st.tuples(finite, finite, finite),
        std=st.tuples(positive, positive, positive),
    ),
    preprocess_source=st.dictionaries(
        st.sampled_from(["size", "crop_mode", "std"]), st.sampled_from(["flags", "a file"])
    ),
    checkpoint_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
)


@given(cards)
def test_every_card_survives_the_round_trip(card: ModelCard) -> None:
    assert card_from(describe(card, precision="int8")) == card


UNREAD = {"precision", "resize", "generator", "description", "version", "author", "license"}  # a card has no such field


def test_what_is_for_people_says_what_the_network_is() -> None:
    described = describe(CARD, precision="w8")
    assert described["description"] == f"{CARD.name}, w8: image classifier with {len(CARD.labels)} classes."
    assert described["version"] == CARD.checkpoint_sha256[:12]
    numbers = dataclasses.replace(CARD, labels=(), numbers=3)
    assert describe(numbers, precision="w8")["description"].endswith("regression with 3 numbers.")


def test_map_is_flat_text_with_the_agreed_keys() -> None:
    described = describe(CARD, precision="fp16", float_onnx_sha256="cd", table_sha256="ef")
    assert list(described) == [
        "model",
        "precision",
        "labels",
        "input_size",
        "resize",
        "crop_mode",
        "crop_ratio",
        "interpolation",
        "mean",
        "std",
        "preprocess_source",
        "description",
        "version",
        "author",
        "license",
        "checkpoint_sha256",
        "generator",
        "float_onnx_sha256",
        "table_sha256",
    ]
    assert all(isinstance(value, str) and value.isascii() for value in described.values())
    assert (described["precision"], described["input_size"], described["resize"]) == ("fp16", "64", "73")
    assert (described["mean"], described["std"]) == ("[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]")
    assert described["generator"].startswith("rexnet-export 0.")


def test_unknown_digest_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="'onnx_sha'"):
        describe(CARD, precision="int8", onnx_sha="ab")


def test_integer_ratio_written_by_others_is_read() -> None:
    card = card_from(describe(CARD, precision="int8") | {"crop_ratio": "1", "mean": "[0, 0, 0]", "std": "[1, 1, 1]"})
    assert card.preprocess == dataclasses.replace(
        CARD.preprocess, crop_ratio=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


@pytest.mark.parametrize("key", sorted(set(describe(CARD, precision="int8")) - UNREAD))
def test_missing_key_is_named(key: str) -> None:
    metadata = describe(CARD, precision="int8")
    del metadata[key]
    with pytest.raises(ConversionError, match=rf"metadata has no '{key}'.*export the model again"):
        card_from(metadata)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", "cat, dog"),
        ("labels", '{"0": "cat"}'),
        ("labels", '["cat", 3]'),
        pytest.param("labels", "[" * 100_000, id="labels-deep"),
        ("input_size", "64.0"),
        ("input_size", "-64"),
        ("input_size", "0"),
        ("input_size", "64x"),
        ("input_size", "64x0"),
        ("input_size", "64x32x16"),
        ("input_size", "٦٤"),
        pytest.param("input_size", "9" * 5000, id="input_size-long"),
        ("crop_ratio", "0"),
        ("crop_ratio", "1.5"),
        ("crop_ratio", "NaN"),
        ("crop_ratio", "true"),
        ("interpolation", "area"),
        ("crop_mode", "centre"),
        ("preprocess_source", '["flags"]'),
        ("preprocess_source", '{"colour": "flags"}'),
        ("preprocess_source", '{"size": 64}'),
        ("preprocess_source", '{"size": "\\u001b[31m"}'),
        pytest.param("preprocess_source", '{"size": "' + "x" * 5000 + '"}', id="preprocess_source-long"),
        ("mean", "[0.5, 0.5]"),
        ("mean", "[0.5, 0.5, NaN]"),
        pytest.param("mean", "[0.5, 0.5, " + "9" * 400 + "]", id="mean-long"),
        ("mean", "[0.5, 0.5, true]"),
        ("std", "[0.2, 0.2, 0]"),
        ("std", "__import__('os')"),
    ],
)
def test_damaged_value_is_named_in_one_short_line(key: str, value: str) -> None:
    with pytest.raises(ConversionError, match=f"metadata '{key}' is ") as refused:
        card_from(describe(CARD, precision="int8") | {key: value})
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


def test_tensors_left_in_float_are_named_only_where_there_are_some() -> None:
    assert "float_tensors" not in describe(CARD, precision="int8")
    assert float_tensors_from(describe(CARD, precision="int8")) == frozenset()
    described = describe(CARD, precision="int8", float_tensors=("stem", "stem.weight"))
    assert float_tensors_from(described) == {"stem", "stem.weight"}
    assert card_from(described) == CARD


@pytest.mark.parametrize("text", ["", "stem", '{"stem": 1}', '["stem", 1]', '["\\u001b[31m"]', "null"])
def test_a_damaged_list_of_float_tensors_is_refused(text: str) -> None:
    with pytest.raises(ConversionError, match=r"'float_tensors' is .*, not a JSON list of tensor names"):
        float_tensors_from({"float_tensors": text})


def test_a_backbone_says_its_outputs_in_place_of_labels() -> None:
    outputs = (Feature(name="features.2.residual", stride=4, channels=38),)
    card = ModelCard(**vars(CARD) | {"labels": (), "features": outputs})
    described = describe(card, precision="int8")
    assert card_from(described) == card
    assert card.answers == 38
    assert "features" not in describe(CARD, precision="int8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '[{"name": 1}]',
        '[{"name": "a", "stride": 4}]',
        '[{"name": "a", "stride": 0, "channels": 1}]',
        '[{"name": "a", "stride": 4, "channels": 1e300}]',
        '[{"name": "a", "stride": 4, "channels": 3}, 5]',
    ],
)
def test_damaged_outputs_are_named(text: str) -> None:
    with pytest.raises(ConversionError, match="'features' is"):
        card_from(describe(CARD, precision="int8") | {"features": text})
