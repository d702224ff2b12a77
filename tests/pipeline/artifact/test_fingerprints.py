from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.fingerprints import damaged, described, fingerprints
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.params import QuantParams

LARGEST_TEXT = 2**20

QPARAMS = {
    "stem": QuantParams(scale=(0.5,), zero_point=(-3,)),
    "stem.weight": QuantParams(scale=(0.25, 0.5), zero_point=(0, 0), axis=0),
}
VALUES: dict[str, NDArray[Any]] = {
    "stem.weight": np.array([[1, 2, 3], [4, 5, 6]], np.int8),
    "logits.bias": np.array([1.0, 2.0], np.float16),
}

SAID = {"labels": '["cat"]', "std": "[1, 1, 1]", "precision": "int8"}
WRITTEN = SAID | described(QPARAMS, VALUES, SAID)

PINNED = {"logits.bias": "51409b2c24a8", "stem": "70b4a800f3bb", "stem.weight": "55a98cd2728c"}


def test_every_tensor_has_twelve_digits() -> None:
    found = fingerprints(QPARAMS, VALUES)
    assert set(found) == {"stem", "stem.weight", "logits.bias"}
    assert all(len(digits) == 12 and int(digits, 16) >= 0 for digits in found.values())


def test_finished_files_can_still_be_read() -> None:
    # What is inside files out there: these digits may never change.
    assert fingerprints(QPARAMS, VALUES) == PINNED


@pytest.mark.parametrize(
    "change",
    [
        {"scale": (float(np.nextafter(np.float32(0.5), np.float32(1))),)},
        {"zero_point": (-2,)},
        {"bits": 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_parameters_are_named(change: dict[str, Any]) -> None:
    changed = QPARAMS | {"stem": replace(QPARAMS["stem"], **change)}
    assert damaged(WRITTEN, changed, VALUES) == ["stem"]


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1, 2, 3], [4, 5, 7]], np.int8),
        np.array([[1, 2, 3], [4, 5, 6]], np.uint8),
        np.array([[1, 2], [3, 4], [5, 6]], np.int8),
        np.array([[2, 3, 4], [5, 6, 1]], np.int8),
    ],
    ids=["value", "type", "shape", "order"],
)
def test_changed_values_are_named(values: NDArray[Any]) -> None:
    assert damaged(WRITTEN, QPARAMS, VALUES | {"stem.weight": values}) == ["stem.weight"]


def test_scales_of_channels_are_told_from_each_other() -> None:
    swapped = QPARAMS | {"stem.weight": replace(QPARAMS["stem.weight"], scale=(0.5, 0.25))}
    assert damaged(WRITTEN, swapped, VALUES) == ["stem.weight"]


def test_tensors_that_are_gone_or_new_are_named() -> None:
    gone = {name: values for name, values in VALUES.items() if name != "logits.bias"}
    assert damaged(WRITTEN, QPARAMS, gone) == ["logits.bias"]
    assert damaged(SAID | described(QPARAMS, gone, SAID), QPARAMS, VALUES) == ["logits.bias"]


def test_memory_layout_and_byte_order_do_not_matter() -> None:
    same = {
        "stem.weight": np.asfortranarray(VALUES["stem.weight"]),
        "logits.bias": VALUES["logits.bias"].astype(">f2"),
    }
    assert damaged(WRITTEN, QPARAMS, same) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '{"stem": 7}',
        '{"stem": "0123456789aG"}',
        '{"stem": "0123"}',
        json.dumps({"two\nlines": "0" * 12}),
        json.dumps({"x" * 1000: "0" * 12}),
        json.dumps({f"tensor{i}": "0" * 12 for i in range(LARGEST_TEXT // 20)}),
    ],
    ids=range(11),
)
def test_hostile_fingerprints_are_refused(text: str) -> None:
    with pytest.raises(ConversionError, match="is no map of fingerprints"):
        damaged({"fingerprints": text}, QPARAMS, VALUES)


def test_a_file_without_fingerprints_is_not_ours() -> None:
    with pytest.raises(ConversionError, match="no 'fingerprints'"):
        damaged({}, QPARAMS, VALUES)


@pytest.mark.parametrize("key", SAID)
def test_changed_and_removed_words_are_named(key: str) -> None:
    assert damaged(WRITTEN, QPARAMS, VALUES) == []
    assert damaged(WRITTEN | {key: "[2]"}, QPARAMS, VALUES) == [f"metadata {key}"]
    gone = {name: text for name, text in WRITTEN.items() if name != key}
    assert damaged(gone, QPARAMS, VALUES) == [f"metadata {key}"]


@pytest.mark.parametrize("key", ["features", "float_tensors", "table_sha256", "mean"])
def test_words_that_change_the_meaning_cannot_be_added(key: str) -> None:
    assert damaged(WRITTEN | {key: "[]"}, QPARAMS, VALUES) == [f"metadata {key}"]


def test_a_format_may_add_words_of_its_own() -> None:
    assert damaged(WRITTEN | {"com.example.tool": "1.0"}, QPARAMS, VALUES) == []


def test_a_file_of_an_older_version_has_to_be_exported_again() -> None:
    with pytest.raises(ConversionError, match="older version"):
        damaged(SAID | described(QPARAMS, VALUES, {}), QPARAMS, VALUES)
