"""Pinning of child processes, and emulators that are seen from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rexnet_export.apps.gate.latency.machine import emulator, pinned
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.records import NotMeasured

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="pinning is Linux's")


def cores_of_a_child() -> set[int]:
    command = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    return set(map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()))


@linux
def test_a_child_gets_the_last_core_and_the_parent_its_own_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1) as cores:
        assert cores == (max(before),)
        assert cores_of_a_child() == {max(before)}
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("threads", "given"), [(1, (7,)), (3, (5, 6, 7)), (4, (2, 5, 6, 7))])
def test_this_process_is_pinned_to_its_last_cores_and_then_to_all_again(
    threads: int, given: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, asked = {6, 2, 7, 5}, []
    monkeypatch.setattr(os, "sched_getaffinity", {0: own}.__getitem__, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: asked.append(given), raising=False)
    with pinned(threads) as cores:
        assert cores == given
    assert asked == [(0, given), (0, own)]


@linux
def test_the_parent_gets_its_cores_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError), pinned(1):
        raise RuntimeError
    assert os.sched_getaffinity(0) == before


@linux
def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="cores"), pinned(len(os.sched_getaffinity(0)) + 1):
        pass


@linux
def test_a_refusal_is_said_and_the_measurement_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: int, _cores: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pinned(1) as cores:
        assert isinstance(cores, NotMeasured)
        assert "Operation not permitted" in cores.reason


def test_a_system_without_pinning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned(64) as cores:
        assert isinstance(cores, NotMeasured)


@contextmanager
def proc(folder: Path, program: str, cpuinfo: str) -> Iterator[Path]:
    (folder / "7").mkdir()
    (folder / "7" / "exe").symlink_to(program)
    (folder / "cpuinfo").write_text(cpuinfo)
    yield folder


@pytest.mark.parametrize(
    ("program", "cpuinfo", "found"),
    [
        ("/usr/bin/python3.12", "model name : AMD EPYC\n", None),
        ("/usr/bin/qemu-aarch64-static", "model name : AMD EPYC\n", "qemu-aarch64-static"),
        ("/usr/bin/python3.12", "model name : QEMU TCG CPU version 2.5+\n", "QEMU TCG"),
        ("/usr/bin/python3.12", "model name : VirtualApple @ 2.50GHz\n", "VirtualApple"),
        ("/usr/bin/python3.12", "model name : QEMU Virtual CPU version 2.5+\n", None),  # KVM's too
    ],
)
def test_emulators_are_seen(tmp_path: Path, program: str, cpuinfo: str, found: str | None) -> None:
    with proc(tmp_path, program, cpuinfo) as folder:
        assert emulator(7, folder) == found


def test_where_there_is_no_proc_nothing_is_seen(tmp_path: Path) -> None:
    assert emulator(7, tmp_path) is None
