"""Shared work is done once, is what it would have been, and survives whoever does it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from rexnet_export.pipeline.machine.shared_work import ENTRY, SharedWork, digest_of

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(["x/3", "ü"])}
MANY = 2**30


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/*{ENTRY}"))


def refuse() -> dict[str, np.ndarray]:
    raise AssertionError("it was to be there")


def test_what_is_known_is_not_made_again(tmp_path: Path) -> None:
    SharedWork(tmp_path, MANY).once(["it"], lambda: ARRAYS)
    found = SharedWork(tmp_path, MANY).once(["it"], refuse)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(AssertionError):
        SharedWork(tmp_path, MANY).once(["i", "t"], refuse)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for _ in range(2):
        np.testing.assert_array_equal(SharedWork(tmp_path, MANY).often(["pixels"], lambda: pixels), pixels)


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    work = SharedWork(tmp_path, MANY)
    work.once(["it"], lambda: ARRAYS)
    (path,) = entries(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    work.once(["it"], lambda: ARRAYS)
    assert path.read_bytes() == content


def test_a_bound_is_kept_and_what_is_used_stays(tmp_path: Path) -> None:
    block = {"block": np.zeros(10_000, np.uint8)}
    work = SharedWork(tmp_path, 100_000)
    for number in range(40):
        work.once([str(number)], lambda: block)
        work.once(["0"], refuse)
        time.sleep(0.001)
    whole = sum(path.stat().st_size for path in entries(tmp_path))
    assert 40_000 < whole < 120_000


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    work = SharedWork(tmp_path / "file" / "below", MANY)
    assert work.once(["it"], lambda: ARRAYS) is ARRAYS


def slowly(folder: Path, killed: bool) -> None:  # noqa: FBT001
    def make() -> dict[str, np.ndarray]:
        with (folder / "made").open("a") as stream:
            stream.write(".")
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.3)
        return ARRAYS

    SharedWork(folder, MANY).once(["it"], make)


def test_processes_wait_for_each_other_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    dying = context.Process(target=slowly, args=(tmp_path, True))
    dying.start()
    dying.join()
    assert not entries(tmp_path)
    alive = [context.Process(target=slowly, args=(tmp_path, False)) for _ in range(4)]
    for process in alive:
        process.start()
    for process in alive:
        process.join()
    assert (tmp_path / "made").read_text() == ".."
    assert len(entries(tmp_path)) == 1


def test_a_digest_is_of_type_shape_and_content() -> None:
    array = np.arange(6, dtype=np.uint8)
    assert len({digest_of(each) for each in (array, array.reshape(2, 3), array.view(np.int8), array + 1)}) == 4
    assert digest_of(array.reshape(2, 3).T) == digest_of(np.ascontiguousarray(array.reshape(2, 3).T))
