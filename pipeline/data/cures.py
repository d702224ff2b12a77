"""What a file or folder that holds no images is instead, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from rexnet_export.pipeline.core.installing import extra_command

HEAD = 512
_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (b"\x1f\x8b", "gzip: unpack it (gunzip, or tar -xzf)"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"PAR1", "a parquet table: name it, or its folder, as the data"),
    (b"ARROW1", "an Arrow table: name its folder as the data"),
    (b"%PDF", "a PDF"),
    (b"BZh", "bzip2: unpack it (tar -xjf)"),
    (b"\xfd7zXZ", "xz: unpack it (tar -xJf)"),
)
_WEB = (b"<!doctype html", b"<html", b"<?xml")
_HEIC = (b"heic", b"heix", b"hevc", b"mif1", b"heif")
_ARCHIVES = ("*.tar", "*.tar.*", "*.tgz", "*.zip")


def kind_of(head: bytes) -> str | None:
    """What content that starts so is, with the cure; None where nothing is known."""
    if head.lstrip()[:16].lower().startswith(_WEB):
        return "a web page: fetch the file again"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it (tar -xf)"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return f"HEIC: run `{extra_command('data')}` to read it, or convert it to JPEG"
    return next((kind for start, kind in _STARTS if head.startswith(start)), None)


def kind_of_file(path: Path) -> str | None:
    """The same of a file; None where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return kind_of(stream.read(HEAD))
    except OSError:
        return None


def instead_of_images(folder: Path) -> str | None:
    """What a folder without images has that holds some."""
    for pattern in _ARCHIVES:
        if found := next(folder.rglob(pattern), None):
            return f"{found.name} is an archive: unpack it and name the folder it gives"
    return None
