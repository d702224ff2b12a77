"""The door for checkpoint files: what is none is told with its cure; damaged ones load right or are refused clearly."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from rexnet_export.pipeline.checkpoint.file import read_file
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor

STATE = {"stem.conv.weight": torch.randn(4, 3, 3, 3), "a.bias": torch.randn(5), "steps": torch.tensor(3)}


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"), io.BytesIO())
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    return stream.getvalue()


def compressed() -> bytes:
    """torch's layout, but compressed as no torch file is: a few bytes could hold gigabytes."""
    plain, squeezed = io.BytesIO(), io.BytesIO()
    torch.save(STATE, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return squeezed.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>\n<html>", "is a web page, not weights"),
        (b"\xef\xbb\xbf\n<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "run `git lfs pull`"),
        (gzip.compress(b"x"), "run `gunzip`"),
        (tar(), "is a tar archive"),
        (arrays(), "is a NumPy archive"),
        (b'{"architecture": "rexnet_100"}', "is a JSON text"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"PK\x05\x06" + bytes(18), "zip archive without torch's data.pkl"),
        (b"\x08\x08garbage", "nor a sound ONNX file"),
        (compressed(), "is compressed, which torch never does"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "a header of 1,099,511,627,776 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # content may hold the time of day
)
def test_what_is_no_checkpoint_is_told_with_its_cure(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_file(tmp_path / "weights.pth")
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*(regular file|directory)"):
        read_file(tmp_path / "weights.pth")


@cache
def stored(form: str) -> bytes:
    if form == "safetensors":
        return save(STATE)
    stream = io.BytesIO()
    torch.save(STATE, stream, _use_new_zipfile_serialization=form == "zip")
    return stream.getvalue()


def outcome(path: Path, content: bytes) -> dict[str, torch.Tensor] | None:
    """All tensors, or None where the file was refused as it should be."""
    path.write_bytes(content)
    try:
        values = read_file(path).values
    except CheckpointError:
        return None
    tensors = {}
    for name, each in values.items() if isinstance(values, dict) else ():  # what is none has no named tensors
        if not isinstance(each, StoredTensor):
            continue
        try:
            tensors[name] = each.read()
        except Exception:  # noqa: BLE001 - the caller makes one refusal of whatever damage does
            return None
    return tensors


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_loads_right_or_not_at_all(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(stored("zip"))
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for _ in range(data.draw(st.integers(1, 3)) if whole else 0):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    tensors = outcome(tmp_path / "a.pth", bytes(whole))
    if tensors is not None:
        assert all(torch.equal(each, STATE[name]) for name, each in tensors.items() if name in STATE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from(["legacy", "safetensors"]))
def test_damage_to_formats_without_checksums_never_gives_more_than_was_stored(
    tmp_path: Path, data: st.DataObject, form: str
) -> None:
    whole = bytearray(stored(form))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    tensors = outcome(tmp_path / "a.pth", bytes(whole))
    assert tensors is None or sum(each.numel() for each in tensors.values()) <= len(whole)


def test_a_name_that_safetensors_does_not_open_is_told_from_damage(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    path.write_bytes(save(STATE))
    with pytest.raises(
        CheckpointError, match="has a name that is no UTF-8, and safetensors opens no such file: rename it"
    ):
        read_file(path)
