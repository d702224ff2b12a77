"""The one door for files from elsewhere: regular files only, of a bounded size, inside their package.

What may not pass is an `OSError` whose `strerror` is the reason, as for a file that is not there; content that is not
what it should be is a `ValueError`. So a caller needs no more than what any read needs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
MOST_MEMBERS = 10_000  # files and folders of a package
MOST_ARTIFACT = 2**31 - 1  # bytes of one file of an artifact: what protobuf and flatbuffers themselves can address


def open_untrusted(path: Path, most_bytes: int, *, inside: Path | None = None) -> BinaryIO:
    """Open a regular file of at most `most_bytes` for reading; no link may lead it out of the folder `inside`."""
    if inside is not None:
        _require_inside(path, inside)
    # A pipe without a writer must not keep the program waiting, and a terminal must not become its own.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    try:
        _require_regular(path, os.fstat(descriptor), most_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_untrusted(path: Path, most_bytes: int) -> None:
    """Ask of a file what `open_untrusted` asks, for a library that opens it by its name."""
    _require_regular(path, path.stat(), most_bytes)


def read_untrusted(path: Path, most_bytes: int, *, inside: Path | None = None) -> bytes:
    """The content of a regular file, which may not grow beyond `most_bytes` while it is read either."""
    with open_untrusted(path, most_bytes, inside=inside) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise _too_large(path, most_bytes)
    return content


def package_members(package: Path) -> Iterator[Path]:
    """Every file below a folder, sorted; a link, a device or too many of them is an `OSError`.

    Copies, digests and readers of a package follow links, so one would bring in a file from outside.
    """
    found: list[Path] = []
    waiting, seen = [package], 0
    while waiting:
        for entry in os.scandir(waiting.pop()):
            seen += 1
            if seen > MOST_MEMBERS:
                raise OSError(errno.E2BIG, f"it holds more than {MOST_MEMBERS:,} files", str(package))
            if entry.is_symlink():
                raise OSError(errno.ELOOP, f"{entry.name!a} in it is a link", str(package))
            if entry.is_dir():
                waiting.append(Path(entry.path))
            elif entry.is_file():
                found.append(Path(entry.path))
            else:
                raise OSError(errno.EINVAL, f"{entry.name!a} in it is no regular file", str(package))
    yield from sorted(found)


def _require_regular(path: Path, status: os.stat_result, most_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
    if status.st_size > most_bytes:
        raise _too_large(path, most_bytes)


def _require_inside(path: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OSError(errno.EXDEV, f"it leads out of {folder.name!a}", str(path))


def _too_large(path: Path, most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))
