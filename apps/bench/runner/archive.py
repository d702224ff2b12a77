"""Reading a bundle that may come from anywhere: names, sizes and digests are checked before a byte is believed."""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

from rexnet_export.apps.bench.runner.failure import DAMAGED, DEVICE, RunnerError
from rexnet_export.apps.bench.runner.strict_json import strict_loads

SUMS_FILE, BUNDLE_FILE, PLAN_FILE = "SHA256SUMS", "bundle.json", "plan.json"
SCHEMA_VERSION = 1
# Few characters, so that a name means the same to every shell, file system and archive program.
MEMBER = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._+-]*/){0,6}[A-Za-z0-9_][A-Za-z0-9._+-]*")
SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
MOST_MEMBERS = 4096
MOST_BYTES = 4 * 2**30
MOST_SUMS = 2**20
PIECE = 2**20


class Archive:
    """An open bundle whose member names and declared sizes have been checked; contents are checked as they are read."""

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = opened
        self._members = {member.filename: member for member in self._checked_members()}
        self._sums = self._read_sums()

    def names(self) -> list[str]:
        """Every member but the sums, sorted."""
        return sorted(self._sums)

    def read(self, name: str) -> bytes:
        """One member's content, its digest checked."""
        if name not in self._sums:
            raise self._damaged(f"has no {name}")
        content = self._content(name)
        if hashlib.sha256(content).hexdigest() != self._sums[name]:
            raise self._damaged(f"{name} is not what {SUMS_FILE} says (hash mismatch)")
        return content

    def read_object(self, name: str) -> dict[str, Any]:
        """A member that holds a JSON object."""
        try:
            value = strict_loads(self.read(name))
        except ValueError as error:
            raise self._damaged(f"{name} is no JSON ({error})") from error
        if not isinstance(value, dict):
            raise self._damaged(f"{name} holds no object")
        return value

    def identity(self) -> dict[str, Any]:
        """`bundle.json`, its identifier recomputed from the sums."""
        identity = self.read_object(BUNDLE_FILE)
        if identity.get("schema_version") != SCHEMA_VERSION:
            raise self._damaged(f"is of version {identity.get('schema_version')!r}, this runner reads {SCHEMA_VERSION}")
        if identity.get("bundle_id") != bundle_id(self._sums):
            raise self._damaged("bundle_id is not the digest of its files (hash mismatch)")
        return identity

    def check(self) -> dict[str, Any]:
        """Read everything once; returns `bundle.json`."""
        for name in self.names():
            self.read(name)
        return self.identity()

    def unpack(self, folder: Path) -> None:
        """Write every member below an empty `folder`, each checked before it is written."""
        for name in self.names():
            target = folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(name))
            except OSError as error:
                raise RunnerError(f"cannot write {target}: {error.strerror}; free some space", DEVICE) from error

    def _checked_members(self) -> list[zipfile.ZipInfo]:
        members = self._zip.infolist()
        if len(members) > MOST_MEMBERS:
            raise self._damaged(f"has {len(members)} members, more than {MOST_MEMBERS}")
        if sum(member.file_size for member in members) > MOST_BYTES:
            raise self._damaged(f"would unpack to more than {MOST_BYTES} bytes")
        seen = set()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if not MEMBER.fullmatch(member.filename):
                raise self._damaged(f"has a member named {member.filename[:200]!r}, which is not a plain relative name")
            if kind not in (0, stat.S_IFREG):
                raise self._damaged(f"{member.filename} is no regular file but a link or a device")
            if member.filename.lower() in seen:
                raise self._damaged(f"has {member.filename} twice")
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self._damaged(f"{member.filename} is encrypted or packed in an unusual way")
            seen.add(member.filename.lower())
        return members

    def _read_sums(self) -> dict[str, str]:
        if SUMS_FILE not in self._members:
            raise self._damaged(f"has no {SUMS_FILE}")
        if self._members[SUMS_FILE].file_size > MOST_SUMS:
            raise self._damaged(f"{SUMS_FILE} is larger than {MOST_SUMS} bytes")
        sums = {}
        for line in self._content(SUMS_FILE).decode("utf-8", "replace").splitlines():
            match = SUM_LINE.fullmatch(line)
            if not match:
                raise self._damaged(f"{SUMS_FILE} has the line {line[:200]!r}")
            sums[match.group(2)] = match.group(1)
        strangers = sorted((set(self._members) - {SUMS_FILE}) ^ set(sums))
        if strangers:
            raise self._damaged(f"members and {SUMS_FILE} disagree about {strangers[0]!r}")
        return sums

    def _content(self, name: str) -> bytes:
        """At most as many bytes as the member declares, whatever its packed bytes would give."""
        declared = self._members[name].file_size
        try:
            with self._zip.open(name) as stream:
                parts = []
                left = declared
                while left > 0:
                    part = stream.read(min(left, PIECE))
                    if not part:
                        raise self._damaged(f"{name} is shorter than declared")
                    parts.append(part)
                    left -= len(part)
                return b"".join(parts)
        except (
            OSError,
            EOFError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise self._damaged(f"{name} cannot be read ({error})") from error

    def _damaged(self, what: str) -> RunnerError:
        return RunnerError(f"{self.path.name} {what}: the bundle is damaged; make or copy it again", DAMAGED)


def open_archive(path: Path) -> Archive:
    """Open a bundle; `RunnerError` where it is none."""
    try:
        return Archive(path, zipfile.ZipFile(path))
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunnerError(f"{path} is no bundle ({reason}); make one with rexnet-bench bundle", DAMAGED) from error


def bundle_id(sums: dict[str, str]) -> str:
    """Digest of the sums of all members but `bundle.json`, which holds it."""
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums) if name != BUNDLE_FILE]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
