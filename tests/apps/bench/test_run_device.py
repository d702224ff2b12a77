"""A bundle through every transport, whole; and with the connection lost in every phase, nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bundles import SHORT, altered
from device_results import seal
from servers import adbd, children, sshd

from rexnet_export.apps.bench.command import main
from rexnet_export.apps.bench.result.result import read_result
from rexnet_export.apps.bench.run_bundle import PHASES, Request, run_bundle
from rexnet_export.apps.bench.transports import adb as adb_module
from rexnet_export.apps.bench.transports import device_lock
from rexnet_export.apps.bench.transports import ssh as ssh_module
from rexnet_export.apps.bench.transports.device_lock import LOCK
from rexnet_export.apps.bench.transports.local import local
from rexnet_export.apps.bench.transports.ssh import ssh
from rexnet_export.pipeline.core.errors import DeviceError
from rexnet_export.pipeline.core.progress import Bar


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """Client configuration and process id of an sshd."""
    with sshd(tmp_path_factory.mktemp("sshd")) as (_, config, pid):
        yield config, pid


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs lock and fill a folder of these tests, so that others on this machine may run too."""
    folder = str(tmp_path_factory.mktemp("device"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(ssh_module, "ROOTS", (folder,))
        patch.setattr(adb_module, "ROOTS", (folder,))
        yield


def left_behind() -> list[str]:
    return sorted(path.name for path in Path(local().roots[0]).glob("rexnet-bench*") if path.is_dir())


@pytest.fixture(scope="module")
def finished(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on this machine."""
    output = tmp_path_factory.mktemp("finished") / "out"
    assert main(["run", str(bundle), *SHORT, "--quiet", "--output", str(output)]) == 4
    return output


@contextmanager
def reachable(kind: str, folder: Path) -> Iterator[list[str]]:
    """Flags that name a device of a kind."""
    if kind == "ssh":
        with sshd(folder) as (_, config, _pid):
            yield ["--device", "ssh://board", "--ssh-config", str(config), "--python", sys.executable]
    elif kind == "adb":
        with adbd() as (serial, _pid):
            yield ["--device", f"adb:{serial}", "--python", sys.executable]
    else:
        yield ["--device", "local"]


@pytest.mark.parametrize("kind", ["local", "ssh", "adb"])
def test_run_and_compare(kind: str, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = left_behind()
    with reachable(kind, tmp_path) as flags:
        assert main(["run", str(bundle), *flags, *SHORT, "--output", str(tmp_path / "out")]) == 4
    assert "min_queries" in capfd.readouterr().err
    result = read_result(tmp_path / "out")
    assert result["parity"]["top1_agreement"] == 1
    assert result["runtime"]["process_kind"] == ("ssh" if kind == "ssh" else "shell")
    names = [control["name"] for control in result["controls"]]
    assert names == ["affinity", "fixed_performance_mode"] if kind == "adb" else ["affinity"]
    assert left_behind() == before
    assert main(["compare", str(tmp_path / "out"), str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["flipped_images"] == 0


def test_what_a_device_calls_itself_cannot_command_the_terminal(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = shutil.copytree(finished, tmp_path / "[red]")
    result = read_result(hostile)
    result["device"]["model"] = "[/x] \x1b[2J"
    (hostile / "result.json").write_text(json.dumps(result))
    seal(hostile)
    assert main(["compare", str(finished), str(hostile)]) == 0
    said = capfd.readouterr().out
    assert "[/x] \N{REPLACEMENT CHARACTER}[2J" in said
    assert "\x1b" not in said


class Severing:
    """Progress that breaks the connection when a phase begins."""

    def __init__(self, phase: str, server: int) -> None:
        self.phase, self.server = phase, server

    @contextmanager
    def stage(self, _title: str, _total: int, _unit: str) -> Iterator[Bar]:
        yield self

    def note(self, text: str) -> None:
        pass

    def advance(self, count: int = 1, note: str = "") -> None:  # noqa: ARG002 - the protocol's parameter
        if note == self.phase:
            for pid in children(self.server):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "done"])
def test_connection_lost_in_every_phase(phase: str, server: tuple[Path, int], bundle: Path, tmp_path: Path) -> None:
    before = left_behind()
    output, (config, pid) = tmp_path / "out", server
    request = Request(
        bundle=bundle, python=sys.executable, flags=("--images", "12", *SHORT), timeout=120, output=output
    )
    with pytest.raises(DeviceError) as caught:
        run_bundle(request, ssh("ssh://shared", config), Severing(phase, pid))
    assert caught.value.exit_code == 5
    assert not output.exists()
    assert not list(tmp_path.glob(".out*"))
    assert left_behind() == before  # the server itself lives, so the folder could be cleaned by a new connection


def test_folder_that_cannot_be_cleaned_is_named(bundle: Path, tmp_path: Path) -> None:
    with sshd(tmp_path) as (_, config, server):

        class Ending(Severing):
            def advance(self, count: int = 1, note: str = "") -> None:
                if note == self.phase:
                    os.kill(server, signal.SIGKILL)
                super().advance(count, note)

        request = Request(bundle=bundle, python=sys.executable, flags=SHORT, timeout=120, output=tmp_path / "out")
        with pytest.raises(DeviceError, match="Left on the device") as caught:
            run_bundle(request, ssh("ssh://board", config), Ending("parity", server))
    for word in str(caught.value).replace(";", " ").split():
        if "/rexnet-bench" in word:
            local().remove(word)


def test_one_run_at_a_time(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "ENDING_S", 0)
    first: list[int] = []
    flags = ["run", str(bundle), *SHORT, "--quiet", "--output"]
    lock = Path(local().roots[0]) / LOCK
    command = [
        sys.executable,
        "-P",
        "-c",
        "import sys; from rexnet_export.apps.bench.command import main; sys.exit(main())",
    ]
    worker = threading.Thread(
        target=lambda: first.append(
            subprocess.run([*command, *flags, str(tmp_path / "a"), "--sustained", "0.03"], check=False).returncode
        )
    )
    worker.start()
    while not lock.exists():
        assert worker.is_alive()
    assert main([*flags, str(tmp_path / "b")]) == 5
    assert "busy with another run" in capfd.readouterr().err.replace("\n", " ")
    worker.join()
    assert first == [4]
    assert not lock.exists()


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--device", "browsers"], 2, "--device 'browsers'"),
        (["--device", "browser", "--python", "python3"], 2, "--python says nothing to a browser"),
        (["--device", "browser", "--artifact", "none"], 2, "the bundle has rexnet_050-int8.tflite (litert.js)"),
        (["--device", "browser", "--runtime", "onnxruntime"], 2, "no artifact is as --artifact and --runtime say"),
        (["--device", "browser", "--images", "0"], 2, "images 0"),
        (["--device", "local:x"], 2, "--device"),
        (["--timeout", "0"], 2, "--timeout 0"),
        (["--timeout", "36001"], 2, "36000 s at most"),
        (["--python", "no such; python"], 5, "--python"),
        (["--artifact", "$(touch evil)"], 2, "no artifact"),
        (["--runtime", "tflite_runtime"], 13, "pip install tflite-runtime"),
        (["--timeout", "0.02"], 5, "no answer in 0.02 s"),
    ],
)
def test_refusals(
    flags: list[str],
    code: int,
    says: str,
    bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = left_behind()
    assert main(["run", str(bundle), *SHORT, "--output", str(tmp_path / "out"), *flags]) == code
    assert says in capfd.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())
    assert left_behind() == before


def test_damaged_bundle_never_reaches_the_device(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = altered(bundle, tmp_path / "x.zip", lambda members: members.update({"../evil": b""}))
    assert main(["run", str(hostile), "--output", str(tmp_path / "out")]) == 11
    assert "not a plain relative name" in capfd.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_devices(capfd: pytest.CaptureFixture[str]) -> None:
    with adbd() as (serial, _):
        assert main(["devices", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [entry["device"] for entry in found] == ["local", f"adb:{serial}"]
    assert main(["devices"]) == 0
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()][-4:] == [
        "ssh://user@host[:port]",
        "adb:SERIAL",
        "apple:IDENTIFIER",
        "browser",
    ]


def test_a_tool_that_cannot_list_its_devices_hides_no_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def failing() -> list[tuple[str, str]]:
        raise DeviceError("adb devices: cannot bind; start its server")

    monkeypatch.setattr(adb_module, "listed", failing)
    assert main(["devices", "--json"]) == 0
    said = capfd.readouterr()
    assert [entry["device"] for entry in json.loads(said.out)] == ["local"]
    assert "adb devices: cannot bind; start its server" in said.err
