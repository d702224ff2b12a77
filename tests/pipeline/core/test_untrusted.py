"""Files from elsewhere: only regular ones, of a bounded size, that lie where they say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from rexnet_export.pipeline.core.untrusted import package_members, read_untrusted, require_untrusted


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    (file := tmp_path / "file").write_bytes(b"12345")
    assert read_untrusted(file, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_untrusted(file, 4)


def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe"):
        read_untrusted(pipe, 5)
    with pytest.raises(OSError, match="a pipe"):
        require_untrusted(pipe, 5)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_devices_are_refused(device: str) -> None:
    with pytest.raises(OSError):
        read_untrusted(Path(device), 5)


def test_folders_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with pytest.raises(IsADirectoryError):
        read_untrusted(tmp_path, 5)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError):
            read_untrusted(Path("socket"), 5)


def test_a_link_may_stay_inside_only(tmp_path: Path) -> None:
    (outside := tmp_path / "outside").write_bytes(b"secret")
    (package := tmp_path / "package").mkdir()
    (package / "own").write_bytes(b"own")
    (package / "in").symlink_to("own")
    (package / "out").symlink_to(outside)
    assert read_untrusted(package / "in", 10, inside=package) == b"own"
    for path in (package / "out", package / ".." / "outside"):
        with pytest.raises(OSError, match="leads out of 'package'"):
            read_untrusted(path, 10, inside=package)


def test_members_of_a_package_are_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("a", "b/d", "b/c/e"):
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in package_members(tmp_path)] == ["a", "b/c/e", "b/d"]
    (tmp_path / "b" / "l\x1b").symlink_to("/etc")
    with pytest.raises(OSError, match=r"l\\x1b' in it is a link"):
        list(package_members(tmp_path))


def test_a_pipe_in_a_package_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        list(package_members(tmp_path))
