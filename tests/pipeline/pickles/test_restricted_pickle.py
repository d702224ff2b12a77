"""Pickles are read without running anything: values arrive, code does not, and hostile files are refused at once."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import pickletools
import time
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.checkpoint.file import read_file
from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.pickles.restricted_pickle import load_pickle
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor
from rexnet_export.pipeline.pickles.values import NumpyArray, PickleRefused, Record

STATE = dict(ReXNet(architecture(width=0.1, classes=2)).state_dict())


def read(content: bytes) -> object:
    def persistent(_: object) -> object:
        raise ValueError("no storages here")

    return load_pickle(io.BytesIO(content), persistent)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_what_pickle_gives(value: object, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(2.5), 2.5),
        (np.int64(7), 7),
        (np.bool_(1), True),
        (pathlib.PurePosixPath("/data/images"), "/data/images"),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(int, {"a": 1}), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ({1, 2}, [1, 2]),
        (torch.Size([3, 4]), (3, 4)),
        (bytearray(b"abc"), b"abc"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_common_types_arrive_as_plain_ones(value: object, expected: object, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_namespaces_arrive_as_records(protocol: int) -> None:
    for value in (argparse.Namespace(lr=0.1), types.SimpleNamespace(lr=0.1)):
        record = read(pickle.dumps(value, protocol))
        assert isinstance(record, Record)
        assert record.fields == {"lr": 0.1}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", "i4", "u1"])
def test_arrays_arrive_as_tensors(dtype: str, protocol: int) -> None:
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    for each in (array, np.asfortranarray(array), array[:, ::2].copy()):
        value = read(pickle.dumps(each, protocol))
        assert isinstance(value, NumpyArray)
        assert np.array_equal(value.tensor().read().numpy(), each)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array(["cat", "dog"]), ("cat", "dog")),
        (np.array(["cat", "dog"], object), ("cat", "dog")),
        (np.array(["cat", None], object), ()),
        (np.array([b"cat"]), ()),
        (np.zeros(2, [("a", "f4")]), ()),
        (np.array(["2026-01-02"], "datetime64[D]"), ()),
    ],
)
def test_arrays_of_texts_arrive_as_words_and_others_as_nothing(
    array: np.ndarray[Any, Any], words: tuple[str, ...], protocol: int
) -> None:
    value = read(pickle.dumps(array, protocol))
    assert isinstance(value, NumpyArray)
    assert value.words == words
    assert isinstance(read(pickle.dumps(np.str_("cat"), protocol)), Record)


def test_a_training_checkpoint_with_all_of_it_loads(tmp_path: Path) -> None:
    content = {
        "state_dict": collections.OrderedDict(STATE),
        "args": argparse.Namespace(data=pathlib.Path("/data"), lr=np.float64(0.1)),
        "best": np.float32(0.9),
        "confusion": np.eye(3),
        "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "took": datetime.timedelta(seconds=3),
        "history": collections.defaultdict(list, loss=[1.0]),
        "optimizer": torch.optim.AdamW([torch.zeros(2)]).state_dict(),
        "rng": torch.get_rng_state(),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "activation": torch.nn.functional.relu,  # a name, and nothing that is called
    }
    for protocol in (2, 5):
        torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol)
        network = load_checkpoint(tmp_path / "a.pth").network
        assert all(torch.equal(each, STATE[name]) for name, each in network.state_dict().items())


def test_a_state_dict_of_arrays_loads_from_a_bare_pickle(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({name: each.numpy() for name, each in STATE.items()}))
    network = load_checkpoint(tmp_path / "a.pkl").network
    assert all(torch.equal(each, STATE[name]) for name, each in network.state_dict().items())


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_tensors_of_every_kind_are_those_torch_reads(tmp_path: Path, form: str) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {
        "view": base[:, 1:, ::2],
        "transposed": base.transpose(0, 2),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base + 1),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "long": torch.arange(3),
    }
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    values = read_file(path).values
    expected = torch.load(path, weights_only=True)
    assert isinstance(values, dict)
    for name, tensor in expected.items():
        assert isinstance(values[name], StoredTensor)
        assert torch.equal(values[name].read(), tensor)
        assert (values[name].shape, values[name].dtype) == (tuple(tensor.shape), tensor.dtype)


def test_a_whole_module_is_refused_with_the_lines_that_help(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "net.pth")
    message = str(caught.value)
    assert "a whole pickled module (torch.nn.modules.container.Sequential)" in message
    assert "m = torch.load('net.pth', weights_only=False)" in message
    assert "torch.save(m.state_dict(), 'weights.pth')" in message


def twice(memo: int) -> bytes:
    return b"h" + bytes([memo]) + b"h" + bytes([memo]) + b"\x86"


def nested_key(depth: int) -> bytes:
    """A dictionary whose key is a tuple of itself twice, `depth` deep: hashing it takes 2 ** depth steps."""
    levels = b"".join(twice(level) + b"\x940" for level in range(depth))
    return b"\x80\x04})\x940" + levels + b"h" + bytes([depth]) + b"K\x01s."


def repeated(step: bytes, times: int) -> bytes:
    return b"\x80\x04" + step * times + b"N."


def doubling_paths() -> bytes:
    path = b"\x80\x04cpathlib\nPosixPath\n\x940X\x04\x00\x00\x00abcd\x94"
    return path + b"".join(b"h\x00" + twice(at) + b"R\x94" for at in range(1, 60)) + b"."


@pytest.mark.parametrize(
    "content",
    [
        nested_key(45),
        repeated(b"(", 3_000_000),
        b"\x80\x04" + b"]\x94" + b"h\x00a" * 3 + b".",  # a list that holds itself
        b"\x80\x04" + b"\x8d" + (2**62).to_bytes(8, "little") + b".",  # a text of 2 ** 62 bytes
        b"L" + b"9" * 100_000 + b"L\n.",
        doubling_paths(),
        b"\x80\x04]" + b"(" * 1000 + b"l" * 1000 + b".",
    ],
    ids=["hashes for ever", "instructions", "itself", "long text", "long number", "paths", "deep"],
)
def test_hostile_pickles_end_at_once(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    start = time.process_time()
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "a.pth")
    assert time.process_time() - start < 20


def test_a_view_that_repeats_its_numbers_is_refused_before_it_is_made(tmp_path: Path) -> None:
    torch.save({**STATE, "head.fc.weight": torch.zeros(1).expand(600_000, 128)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="76,800,000 numbers is a view that repeats 1 stored ones"):
        load_checkpoint(tmp_path / "a.pth")


CALLS: list[Callable[..., object]] = [
    exec,
    eval,
    getattr,
    open,
    time.sleep,
    torch.load,
    np.load,
    pickle.loads,
    Path.unlink,
]


@pytest.mark.parametrize("function", CALLS, ids=lambda each: each.__qualname__)
def test_no_function_is_ever_called(function: Callable[..., object]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return function, ()

    with pytest.raises(PickleRefused):
        read(pickle.dumps(Trap(), 2))


@given(st.data())
def test_damaged_pickles_give_values_or_one_of_our_errors(data: st.DataObject) -> None:
    whole = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PickleRefused, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        read(bytes(whole))


WHOLE = pickle.dumps(
    {"a": [np.arange(4.0), np.float32(1)], "args": argparse.Namespace(x=pathlib.PurePosixPath("/x")), "s": {1, 2}}, 4
)
assert sum(1 for _ in pickletools.genops(WHOLE)) > 40
