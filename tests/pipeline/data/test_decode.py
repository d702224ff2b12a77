"""HEIC photos are read where the library is there; images of other channels from arrays, bands and pages."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data import decode
from rexnet_export.pipeline.data.preprocess import resize_and_crop
from rexnet_export.pipeline.data.sources import open_source


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    decode._formats()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "IMG_0001.HEIC", "HEIF")
    return tmp_path


def test_heic_is_read(photo: Path) -> None:
    image = open_source(photo, labelled=False).load(0)
    assert image.size == (64, 48)
    assert all(abs(found - made) < 8 for found, made in zip(image.getpixel((9, 9)), (200, 30, 30), strict=True))  # type: ignore[arg-type]


def test_without_its_library_the_cure_is_named(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_formats", lambda: decode.FORMATS)
    with pytest.raises(DataError, match=r"IMG_0001\.HEIC \(HEIC: run `.*(?:\[|--extra )data\b.*`"):
        open_source(photo, labelled=False).probe(0)


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 31, 4), dtype=np.uint8)


def stored(kind: str, pixels: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    if kind == "array":
        np.save(stream, pixels)
    elif kind == "pages":
        first, *others = [Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in range(pixels.shape[2])]
        first.save(stream, "TIFF", save_all=True, append_images=others)
    else:
        Image.fromarray(pixels, kind).save(stream, "TIFF" if kind == "CMYK" else "PNG")
    stream.seek(0)
    return stream


@pytest.mark.parametrize("kind", ["array", "pages", "RGBA", "CMYK"])
def test_every_way_to_store_four_channels_gives_them(kind: str) -> None:
    bands = decode.decode(stored(kind, PIXELS), 4)
    np.testing.assert_array_equal(np.stack([np.asarray(band) for band in bands], axis=2), PIXELS)  # type: ignore[union-attr]
    decode.probe(stored(kind, PIXELS), 4)


def test_an_array_with_channels_first_is_turned() -> None:
    bands = decode.decode(stored("array", PIXELS.transpose(2, 0, 1)), 4)
    np.testing.assert_array_equal(np.stack([np.asarray(band) for band in bands], axis=2), PIXELS)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (stored("array", PIXELS[..., :3]), r"uint8 \[20, 31, 3\], not uint8 \[H, W, 4\]"),
        (stored("array", PIXELS.astype(np.float32)), r"float32 \[20, 31, 4\], not uint8"),
        (stored("array", PIXELS[0]), r"uint8 \[31, 4\], not"),
        (stored("pages", PIXELS[..., :3]), "3 x L where the network takes 4 channels: give uint8 arrays"),
        (stored("RGB", PIXELS[..., :3].copy()), "1 x R/G/B where the network takes 4 channels"),
        (io.BytesIO(b"\x93NUMPY\x01\x00garbage"), "."),
        (io.BytesIO(b"no image"), "not an image"),
    ],
)
def test_what_has_not_so_many_channels_is_refused(stream: io.BytesIO, says: str) -> None:
    with pytest.raises(Exception, match=says), decode.naming("a.tif"):
        decode.decode(stream, 4)


def test_a_page_of_another_size_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    pages = [Image.new("L", (9, 9)), Image.new("L", (1_000, 1_000))]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    stream.seek(0)
    copied: list[tuple[int, int]] = []
    copy = Image.Image.copy
    monkeypatch.setattr(Image.Image, "copy", lambda page: (copied.append(page.size), copy(page))[1])
    with pytest.raises(DataError, match="differ in size"):
        decode.decode(stream, 2)
    assert copied == [(9, 9)]


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_channels_alone_are_resized_as_colours_together_are(mode: str, interpolation: str) -> None:
    preprocess = Preprocess(size=32, crop_mode=mode, interpolation=interpolation, mean=(0.2, 0.5, 0.9))  # type: ignore[arg-type]
    picture = Image.fromarray(PIXELS[..., :3].copy())
    np.testing.assert_array_equal(
        resize_and_crop(picture.split(), preprocess), resize_and_crop(picture, replace(preprocess))
    )


def test_a_folder_of_arrays_is_one_of_images_where_the_network_takes_no_photos(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    assert open_source(tmp_path, labelled=False, channels=4).ids == ("a.npy",)
    with pytest.raises(DataError, match="holds no images"):
        open_source(tmp_path, labelled=False)
