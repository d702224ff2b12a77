"""One contract for every transport, against real servers on the loopback interface."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from servers import adbd, children, sshd

from rexnet_export.apps.bench.transports import device_lock
from rexnet_export.apps.bench.transports.adb import AdbTransport, adb, battery_state, thermal_state
from rexnet_export.apps.bench.transports.device_lock import LOCK, own_folder
from rexnet_export.apps.bench.transports.local import local
from rexnet_export.apps.bench.transports.posix import PosixTransport, Transport, run_process
from rexnet_export.apps.bench.transports.ssh import parsed, ssh
from rexnet_export.pipeline.core.errors import DeviceError, UsageError

LOCKED_S = 12 * 3600

ODD_NAMES = [
    "with space",
    "quo'te",
    'dou"ble',
    "semi;colon",
    "$(touch evil)",
    "`touch evil`",
    "new\nline",
    "-rf",
    "ünï",
    "*",
]


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A transport, and how to break the connection that it has open now."""

    transport: Transport
    sever: Callable[[], None]


def end(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module", params=["local", "ssh", "adb"])
def reached(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    if request.param == "local":
        yield Reached(transport=local(), sever=lambda: end(children(os.getpid())))
    elif request.param == "ssh":
        with sshd(tmp_path_factory.mktemp("sshd")) as (_, config, pid):
            yield Reached(transport=ssh("ssh://shared", config), sever=lambda: end(children(pid)))
    else:
        with adbd() as (serial, _):
            device = adb(f"adb:{serial}")

            def sever() -> None:
                subprocess.run(["adb", "disconnect", serial], check=True, capture_output=True)
                subprocess.run(["adb", "connect", serial], check=True, capture_output=True)

            yield Reached(transport=device, sever=sever)


@pytest.fixture
def device(reached: Reached) -> Transport:
    reached.transport.connect()
    return reached.transport


@pytest.fixture
def lockable(device: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Transport:
    """The device with a folder of this test as its root, where nobody waits for an owner to end."""
    assert isinstance(device, PosixTransport | AdbTransport)
    monkeypatch.setattr(device_lock, "ENDING_S", 0)
    return replace(device, roots=(str(tmp_path),))


def python(device: Transport, code: str, folder: Path, timeout: float = 60) -> tuple[int, bytes, bytes]:
    done = device.run(
        (sys.executable, "-c", code), cwd=str(folder), environment={}, timeout=timeout, heard=lambda _line: None
    )
    return done.code, done.out, done.err


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_codes_and_streams(device: Transport, code: int, tmp_path: Path) -> None:
    program = f"import sys; print('out'); print('err', file=sys.stderr); sys.exit({code})"
    assert python(device, program, tmp_path) == (code, b"out\n", b"err\n")


def test_unknown_program_is_127(device: Transport, tmp_path: Path) -> None:
    done = device.run(("no-such-program",), cwd=str(tmp_path), environment={}, timeout=60, heard=lambda _line: None)
    assert done.code == 127


def test_bytes_up_and_down(device: Transport, tmp_path: Path) -> None:
    source, there, back = tmp_path / "source", tmp_path / "there", tmp_path / "back"
    source.write_bytes(bytes(range(256)) * 300 + b"\r\n\n\0")
    there.write_bytes(b"old and longer" * 100_000)
    device.push(source, str(there))
    assert there.read_bytes() == source.read_bytes()
    device.pull(str(there), back, 10**6)
    assert back.read_bytes() == source.read_bytes()
    with pytest.raises(DeviceError, match="larger than 100 bytes"):
        device.pull(str(there), back, 100)
    with pytest.raises(DeviceError, match="cannot read"):
        device.pull(str(tmp_path / "none"), back, 100)
    with pytest.raises(UsageError, match="none/here cannot be written"):
        device.pull(str(there), tmp_path / "none" / "here", 10**6)


def test_big_file(device: Transport, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(np.random.default_rng(0).bytes(30_000_000))
    device.push(source, str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(device: Transport, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "source").write_bytes(b"content")
    device.push(tmp_path / "source", str(folder / name))
    device.pull(str(folder / name), tmp_path / "back", 100)
    assert (tmp_path / "back").read_bytes() == b"content"
    done = device.run(
        (sys.executable, "-c", "import os, sys; print(sys.argv[1:], os.environ['ODD'])", name, ""),
        cwd=str(folder),
        environment={"ODD": name},
        timeout=60,
        heard=lambda _line: None,
    )
    assert done.out.decode() == f"{[name, '']} {name}\n"
    device.remove(str(folder / name))
    assert list(folder.iterdir()) == [], "a run that ended leaves no number that may become another process's"


def test_lines_are_heard_as_they_come(device: Transport, tmp_path: Path) -> None:
    times = []
    device.run(
        (sys.executable, "-c", "import time; print(1, flush=True); time.sleep(1); print(2)"),
        cwd=str(tmp_path),
        environment={},
        timeout=60,
        heard=lambda _line: times.append(time.monotonic()),
    )
    assert len(times) == 2
    assert times[1] - times[0] > 0.5


def test_time_limit_and_removal_end_the_program(device: Transport, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(DeviceError, match="no answer in 2 s"):
        python(device, "import time; time.sleep(60)", folder, timeout=2)
    pid = int((folder / ".pid").read_text())
    device.remove(str(folder))
    time.sleep(0.3)
    assert not folder.exists()
    state = Path(f"/proc/{pid}/status")
    assert not state.exists() or "zombie" in state.read_text()


def test_severed_connection(reached: Reached, device: Transport, tmp_path: Path) -> None:
    threading.Timer(1.5, reached.sever).start()
    with pytest.raises(DeviceError, match="connection failed"):
        python(device, "import time; time.sleep(20)", tmp_path)
    time.sleep(0.5)
    device.connect()


def test_full_disk(device: Transport, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(3_000_000))
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(DeviceError, match="cannot write"):
            device.push(source, str(small / "there"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_at_once(device: Transport, tmp_path: Path) -> None:
    found = {}

    def work(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        found[name] = python(device, f"import time; time.sleep(0.5); print('{name}' * 1000)", folder)

    workers = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == {name: (0, f"{name * 1000}\n".encode(), b"") for name in "ab"}


def test_info(device: Transport) -> None:
    assert device.info()["system"] == "Linux"


def test_what_a_device_has_not_is_a_refusal_and_never_a_claim(device: Transport) -> None:
    with device.controlled() as controls:
        pass
    for control in controls:
        assert (control["applied"], control["restored"]) == (False, None)
        assert control["error"].startswith("refused")
    assert device.state() == {}


def test_a_locked_device_is_refused_and_its_lock_left(lockable: Transport, tmp_path: Path) -> None:
    with own_folder(lockable, "first") as folder:
        assert Path(folder).is_dir()
        with pytest.raises(DeviceError, match="busy with another run"), own_folder(lockable, "second"):
            pass
        assert owners(tmp_path) == ["first"]
        assert Path(folder).is_dir()
    assert not list(tmp_path.iterdir())


def test_an_owner_that_is_ending_is_waited_for(
    lockable: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "ENDING_S", 60)
    with contextlib.ExitStack() as first:
        first.enter_context(own_folder(lockable, "first"))
        ending = threading.Timer(0.5, first.pop_all().close)
        ending.start()
        with own_folder(lockable, "second"):
            assert owners(tmp_path) == ["second"]
        ending.join()
    assert not list(tmp_path.iterdir())


def owners(root: Path) -> list[str]:
    """Runs that a lock names."""
    return [path.name.split("-", 2)[2] for path in (root / LOCK).iterdir()]


def dead_owner(root: Path) -> Path:
    """A lock whose owner's number now belongs to a process that was born at another time."""
    (root / LOCK).mkdir()
    (owner := root / LOCK / f"{os.getpid()}-1-dead").touch()
    return owner


def test_a_dead_owner_locks_nobody_out(lockable: Transport, tmp_path: Path) -> None:
    dead_owner(tmp_path)
    with own_folder(lockable, "second"):
        assert owners(tmp_path) == ["second"]
        with pytest.raises(DeviceError, match="busy"), own_folder(lockable, "third"):
            pass
    assert not list(tmp_path.iterdir())


def test_of_many_that_find_a_dead_owner_one_runs(lockable: Transport, tmp_path: Path) -> None:
    """Each holds the device until all have their answer."""
    many = 3 if lockable.name != "local" else 8
    dead_owner(tmp_path)
    answered = threading.Barrier(many, timeout=60)
    answers: list[str] = []
    refusals: list[str] = []

    def take(run: str) -> None:
        try:
            with own_folder(lockable, run):
                answers.append(run)
                answered.wait()
        except DeviceError as error:
            refusals.append(str(error))
            answered.wait()

    runs = [threading.Thread(target=take, args=(f"run{number}",)) for number in range(many)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(answers) == 1
    assert all("busy with another run" in refusal for refusal in refusals)
    assert not list(tmp_path.iterdir())


RUN = f"""
import sys, time
from dataclasses import replace
from rexnet_export.apps.bench.transports.local import local
from rexnet_export.apps.bench.transports.device_lock import own_folder
with own_folder(replace(local(), roots=(sys.argv[1],)), "{uuid4()}") as folder:
    local().run(("sleep", "100"), cwd=folder, environment={{}}, timeout=99, heard=print)
"""


def test_a_killed_run_leaves_nothing_on_the_device(tmp_path: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)])
    wait_until(lambda: any(path.read_text() for path in tmp_path.glob("*/.pid")))
    program = int(next(tmp_path.glob("*/.pid")).read_text())
    run.kill()
    run.wait()
    wait_until(lambda: not list(tmp_path.iterdir()))
    wait_until(lambda: not is_running(program))


def test_what_a_run_left_whose_device_went_down_is_swept(lockable: Transport, tmp_path: Path) -> None:
    dead_owner(tmp_path)
    (left := tmp_path / f"rexnet-bench-{uuid4()}").mkdir()
    (other := tmp_path / "rexnet-bench-results").mkdir()
    orphan = subprocess.Popen(["sleep", "100"], cwd=left)
    elsewhere = subprocess.Popen(["sleep", "100"], cwd=other)
    try:
        (left / ".pid").write_text(str(orphan.pid))
        with own_folder(lockable, "second"):
            assert not left.exists()
            assert orphan.wait(10) == -signal.SIGKILL
            assert elsewhere.poll() is None
        assert list(tmp_path.iterdir()) == [other]
    finally:
        end([orphan.pid, elsewhere.pid])
        orphan.wait()
        elsewhere.wait()


def test_the_number_of_a_dead_runs_program_may_be_anothers(tmp_path: Path) -> None:
    (left := tmp_path / f"rexnet-bench-{uuid4()}").mkdir()
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        (left / ".pid").write_text(str(stranger.pid))
        with own_folder(replace(local(), roots=(str(tmp_path),)), "second"):
            assert not left.exists()
        assert stranger.poll() is None
    finally:
        end([stranger.pid])
        stranger.wait()


def test_a_folder_that_others_can_write_to_is_no_root(lockable: Transport, tmp_path: Path) -> None:
    (public := tmp_path / "public").mkdir()
    public.chmod(0o1777)
    assert isinstance(lockable, PosixTransport | AdbTransport)
    unsafe = replace(lockable, roots=(str(public),))
    with pytest.raises(DeviceError, match="by this user alone"), own_folder(unsafe, "a"):
        pass
    with own_folder(replace(lockable, roots=(str(public), str(tmp_path))), "a") as folder:
        assert Path(folder).parent == tmp_path


def wait_until(met: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_this_machine_is_locked_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (root,) = local().roots
    assert Path(root).is_relative_to(tmp_path)
    assert Path(root).stat().st_mode & 0o022 == 0


def test_home_is_where_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home := tmp_path / "a home").mkdir()
    monkeypatch.setenv("HOME", str(home))
    with own_folder(replace(local(), roots=("~",)), "first") as folder:
        assert Path(folder).parent == home


def test_a_lock_that_cannot_name_its_run_is_given_up(lockable: Transport, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="could not be locked"), own_folder(lockable, "no/such"):
        pass
    assert not (tmp_path / LOCK).exists()


def aged(lock: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(lock, (then, then))


def test_a_lock_whose_owner_is_no_process_counts_by_its_age(lockable: Transport, tmp_path: Path) -> None:
    (lock := tmp_path / LOCK).mkdir()
    (lock / "somebody").touch()
    aged(lock, LOCKED_S - 120)
    with pytest.raises(DeviceError, match="busy with another run \\(somebody in"), own_folder(lockable, "first"):
        pass
    aged(lock, LOCKED_S + 120)
    with own_folder(lockable, "second"):
        assert owners(tmp_path) == ["second"]
    assert not list(tmp_path.iterdir())


def test_a_lock_that_names_nobody_is_given_a_minute(lockable: Transport, tmp_path: Path) -> None:
    (lock := tmp_path / LOCK).mkdir()
    with pytest.raises(DeviceError, match="busy"), own_folder(lockable, "first"):
        pass
    aged(lock, 120)
    with own_folder(lockable, "second"):
        assert owners(tmp_path) == ["second"]


def test_a_living_owner_keeps_its_lock_however_old(lockable: Transport, tmp_path: Path) -> None:
    with own_folder(lockable, "first"):
        aged(tmp_path / LOCK, LOCKED_S + 120)
        with pytest.raises(DeviceError, match="busy"), own_folder(lockable, "second"):
            pass


def test_a_lock_that_was_lost_is_told_and_another_one_left(lockable: Transport, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="was lost during the run"), own_folder(lockable, "first"):
        next((tmp_path / LOCK).iterdir()).rename(tmp_path / LOCK / "1-1-other")
    assert owners(tmp_path) == ["other"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ssh://board", (None, "board", None)),
        ("ssh://pi@Board.local:2222", ("pi", "Board.local", 2222)),
        ("ssh://[::1]:22", (None, "::1", 22)),
    ],
)
def test_ssh_names(url: str, found: tuple[str | None, str, int | None]) -> None:
    assert parsed(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "ssh://$(x)",
        "ssh://a;b",
        "ssh://u'@h",
        "ssh://h:x",
        "ssh://h/p",
    ],
)
def test_hostile_ssh_names(url: str) -> None:
    with pytest.raises(UsageError):
        ssh(url)


@pytest.mark.parametrize("device", ["adb:", "adb:-s", "adb:a b", "adb:$(x)", "adbx"])
def test_hostile_adb_names(device: str) -> None:
    with pytest.raises(UsageError):
        adb(device)


def test_missing_client_is_named() -> None:
    with pytest.raises(DeviceError, match="no-such-client"):
        run_process(("no-such-client",), timeout=1, device="x")


def test_program_that_ends_as_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(_group: int, _signal: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", too_late)
    with pytest.raises(DeviceError, match="no answer in"):
        run_process(("sleep", "0.5"), timeout=0.1, device="x")


def test_dumpsys() -> None:
    battery = "Current Battery Service state:\n  AC powered: false\n  status: 3\n  level: 81\n  temperature: 291\n"
    assert battery_state(battery) == {"battery_pct": 81, "battery_temp_c": 29.1, "charging": False}
    assert battery_state(battery.replace("status: 3", "status: 2"))["charging"] is True
    assert thermal_state("IsStatusOverride: false\nThermal Status: 2\nCached temperatures:\n") == {"thermal_status": 2}
    assert thermal_state("") == battery_state("nonsense") == {}
