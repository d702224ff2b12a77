from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from rexnet_export.pipeline.data.folder import FolderImages, open_folder
from rexnet_export.pipeline.data.thumbnails import thumbnails

LARGEST = 160
SMALLEST = 96


@pytest.fixture
def images(tmp_path: Path) -> FolderImages:
    for name, size in (("large", (640, 320)), ("middle", (120, 100)), ("small", (28, 20))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    return open_folder(tmp_path, labelled=False)


def test_every_picture_has_a_size_that_a_page_can_show(images: FolderImages) -> None:
    found = thumbnails(images, images.ids)
    sizes = {name: Image.open(io.BytesIO(content)).size for name, content in found.items()}
    assert sizes == {"large.png": (LARGEST, LARGEST // 2), "middle.png": (120, 100), "small.png": (112, 80)}
    assert SMALLEST <= 112 <= LARGEST


def test_only_those_asked_for(images: FolderImages) -> None:
    assert list(thumbnails(images, ["small.png", "unknown"])) == ["small.png"]
