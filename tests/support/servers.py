"""Real servers on the loopback interface, each with its own keys and ports: OpenSSH's sshd and Android's adbd."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from components import required


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[tuple[int, Path, int]]:
    """Port, a client configuration, and the server's process id. The configuration knows two hosts: `board`, and
    `shared`, whose commands share one connection, as people set it up to be faster."""
    required("sshd", "ssh", "ssh-keygen", package="openssh-server openssh-client")
    port = free_port()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_text((folder / "client.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
    )
    client = folder / "client_config"
    sockets = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path must be short
    client.write_text(
        f"Host *\n  IdentityFile {folder}/client\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile {folder}/known\n  LogLevel ERROR\n  HostName 127.0.0.1\n  Port {port}\n"
        f"  KexAlgorithms curve25519-sha256\nHost shared\n  ControlMaster auto\n  ControlPersist 60\n"
        f"  ControlPath {sockets}/%C\n"
    )
    server = subprocess.Popen(
        [str(shutil.which("sshd")), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield port, client, server.pid
    finally:
        subprocess.run(["ssh", "-F", str(client), "-O", "exit", "shared"], check=False, capture_output=True)
        shutil.rmtree(sockets)
        server.terminate()
        server.wait()


@contextlib.contextmanager
def adbd() -> Iterator[tuple[str, int]]:
    """Serial and process id; the adb server in between is this test's own too."""
    required("adb", "adbd", package="-t bookworm-backports adb adbd")
    port, server_port = free_port(), free_port()
    before = os.environ.get("ANDROID_ADB_SERVER_PORT")
    os.environ["ANDROID_ADB_SERVER_PORT"] = str(server_port)
    daemon = subprocess.Popen(
        [str(shutil.which("adbd"))],
        env={**os.environ, "ADBD_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    serial = f"127.0.0.1:{port}"
    try:
        _wait_for(port)
        for _ in range(20):
            subprocess.run(["adb", "connect", serial], check=True, capture_output=True)
            state = subprocess.run(["adb", "-s", serial, "get-state"], check=False, capture_output=True).stdout
            if state.strip() == b"device":
                break
            time.sleep(0.2)
        yield serial, daemon.pid
    finally:
        subprocess.run(["adb", "kill-server"], check=False, capture_output=True)
        daemon.terminate()
        daemon.wait()
        os.environ.pop("ANDROID_ADB_SERVER_PORT")
        if before is not None:
            os.environ["ANDROID_ADB_SERVER_PORT"] = before


def children(pid: int) -> list[int]:
    """Every process that descends from `pid`."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents if parent in new]
        found += new
    return found


def _wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port}")
