"""What the runner reads of a bundle by itself: bounded, and never code."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hostile import HOSTILE_ARRAYS, HOSTILE_JSON, described, npy

from rexnet_export.apps.bench.runner import strict_json
from rexnet_export.apps.bench.runner.array_file import read_array
from rexnet_export.apps.bench.runner.failure import DAMAGED, RunnerError


@pytest.mark.parametrize("text", HOSTILE_JSON, ids=lambda text: text[:12])
def test_json_without_end_or_meaning_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict_json.strict_loads(text.encode())
    assert len(str(caught.value)) < 200


def test_what_a_bundle_may_say_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"a": [1, 2.5, -300.0, 2**63, True, None, "ä"]}
    text = json.dumps(value).encode()
    assert strict_json.strict_loads(text) == value
    assert strict_json.strict_loads(b"[" * 64 + b"]" * 64)
    monkeypatch.setattr(strict_json, "MOST_BYTES", len(text) - 1)
    with pytest.raises(ValueError, match="more than"):
        strict_json.strict_loads(text)


@pytest.mark.parametrize("content", HOSTILE_ARRAYS.values(), ids=HOSTILE_ARRAYS)
def test_a_hostile_array_is_refused_and_takes_no_memory(tmp_path: Path, content: bytes) -> None:
    (file := tmp_path / "labels.npy").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(RunnerError, match=r"labels\.npy is no array of numbers") as caught:
            read_array(file)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.exit_code == DAMAGED
    assert len(str(caught.value)) < 400


def test_texts_are_no_numbers(tmp_path: Path) -> None:
    (file := tmp_path / "labels.npy").write_bytes(npy(described("(1,)", "<U1"), b"a\0\0\0"))
    with pytest.raises(RunnerError, match="no array of numbers"):
        read_array(file)


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype="<f4").reshape(2, 3), np.asfortranarray(np.ones((2, 3), "u1")), np.zeros((0, 5), "<i8")],
)
def test_what_numpy_writes_is_read(tmp_path: Path, array: np.ndarray) -> None:
    np.save(file := tmp_path / "a.npy", array)
    found = read_array(file)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
