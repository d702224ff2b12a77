"""Photos that are stored turned are counted."""

import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from rexnet_export.pipeline.data.sources import bundled, open_source
from rexnet_export.pipeline.data.turned import turned


def save(path: Path, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_images_that_are_to_be_shown_turned_are_counted(suffix: str, tmp_path: Path) -> None:
    for name, orientation in enumerate((None, 1, 6, 3)):
        save(tmp_path / f"{name}.{suffix}", orientation)
    source = open_source(tmp_path, labelled=False)
    line = turned(source, range(4), "evaluation")
    assert line is not None
    assert line.startswith(
        "2 of the first 4 evaluation images are stored turned (EXIF orientation) and taken as stored"
    )
    assert turned(source, (0, 1), "evaluation") is None


def test_what_pillow_turns_itself_and_what_has_no_exif_is_not(tmp_path: Path) -> None:
    save(tmp_path / "0.tiff", 6)
    assert open_source(tmp_path, labelled=False).load(0).size == (20, 40)
    assert turned(open_source(tmp_path, labelled=False), (0,), "evaluation") is None
    assert turned(bundled("evaluation"), range(8), "evaluation") is None


def test_a_png_is_decoded_only_where_something_stands_behind_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "0.png", None)
    save(tmp_path / "1.png", 6)
    content, exif = (tmp_path / "0.png").read_bytes(), Image.Exif()
    exif[0x0112] = 6
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    (tmp_path / "2.png").write_bytes(content[:-12] + chunk + content[-12:])  # before IEND
    decoded: list[PngImagePlugin.PngImageFile] = []
    load = PngImagePlugin.PngImageFile.load
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: decoded.append(image) or load(image))
    source = open_source(tmp_path, labelled=False)
    assert [bool(turned(source, (index,), "evaluation")) for index in range(3)] == [False, True, True]
    assert len(decoded) == 1
