"""Work that several processes need alike, done once: results by the digest of what they follow from, in one folder.

Whoever needs a result first computes it; who needs it meanwhile waits. A process that is killed leaves nothing that
anybody would believe, and the next one computes what it has not finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.machine.environment import TOOLS, environment
from rexnet_export.pipeline.machine.locks import held

type Arrays = Mapping[str, NDArray[np.generic]]

DIGEST = 32  # bytes of SHA-256 in front of every entry
ENTRY, LOCK = ".entry", ".lock"
LOOK_AGAIN = 16  # the folder's size is looked at whenever a process has added such a part of the limit
KEPT = 0.75  # share of the limit that is left when it was passed


class SharedWork:
    """Results in `folder`, of about `most_bytes` at most together: what was not used for the longest goes first."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._added = 0
        known = environment()
        # Digits follow from the processor's kernels and the tools too.
        self._machine = [known["processor"] or "", *(f"{name} {known['packages'][name]}" for name in TOOLS)]

    def once(self, key: Sequence[str], make: Callable[[], Arrays]) -> Arrays:
        """The arrays that follow from the key, which are made once, whoever asks."""
        path = self._path(key)
        if (found := _read(path)) is not None:
            return found
        with _alone(path.with_suffix(LOCK)):
            if (found := _read(path)) is not None:  # somebody else has made them meanwhile
                return found
            return self._keep(path, make())

    def often(self, key: Sequence[str], make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The same of one array that is quickly made: nobody waits for anybody, so it may be made twice."""
        path = self._path(key)
        found = _read(path) or self._keep(path, {"array": make()})
        return np.asarray(found["array"], np.uint8)

    def _path(self, key: Sequence[str]) -> Path:
        digest = hashlib.sha256("\0".join([*self._machine, *key]).encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest}{ENTRY}"

    def _keep(self, path: Path, arrays: Arrays) -> Arrays:
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        content = stream.getvalue()
        with suppress(OSError):  # a full disk costs time, not the result
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete_on_close=False) as written:
                written.write(hashlib.sha256(content).digest() + content)  # not synced: what is cut off is not believed
                written.close()
                Path(written.name).replace(path)
            self._added += len(content)
            if self._added > self._most_bytes / LOOK_AGAIN:
                self._added = 0
                self._make_room()
        return arrays

    def _make_room(self) -> None:
        with held(self._folder):
            entries = sorted(_entries(self._folder), key=lambda entry: entry[1].st_mtime)
            whole = sum(status.st_size for _, status in entries)
            if whole <= self._most_bytes:
                return
            for path, status in entries:
                path.unlink(missing_ok=True)
                whole -= status.st_size
                if whole <= KEPT * self._most_bytes:
                    return


def digest_of(array: NDArray[np.generic]) -> str:
    """What an array is known by in a key: its type, shape and content."""
    described = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(described + np.ascontiguousarray(array).tobytes()).hexdigest()


def _read(path: Path) -> Arrays | None:
    """An entry, marked as used now; None where there is none, or it is damaged."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
            return None
        os.utime(path)
    except OSError:
        return None
    with np.load(io.BytesIO(content[DIGEST:]), allow_pickle=False) as archive:
        return dict(archive)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for everybody who has the file; the system gives it up when a process ends, however. Without a folder that
    can be written to, nobody waits."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob(f"*/*{ENTRY}"):
        with suppress(FileNotFoundError):  # somebody else made room
            yield path, path.stat()
