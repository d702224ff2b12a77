"""Images prepared once are those that would have been prepared every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.prepared import PreparedImages, prepared
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, bundled, open_source
from rexnet_export.pipeline.machine.shared_work import SharedWork

PREPROCESS = Preprocess(size=32, crop_mode="border", crop_ratio=0.9)


def test_pixels_are_prepared_once_for_each_way(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 40 + number, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    source = open_source(tmp_path / "photos", labelled=False)
    images = Images(source=source, indices=tuple(range(5)), labels=None)
    ways = [PREPROCESS, replace(PREPROCESS, interpolation="bilinear"), replace(PREPROCESS, mean=(0.0, 0.0, 0.0))]
    for _ in range(2):
        shared = prepared(images, SharedWork(tmp_path / "work", 2**30))
        assert (shared.source.name, len(shared.source), shared.source.ids) == (source.name, 5, source.ids)
        for way in ways:
            expected = np.concatenate(list(batches(source, way, range(5), 2)))
            np.testing.assert_array_equal(np.concatenate(list(batches(shared.source, way, range(5), 2))), expected)
    assert len(list((tmp_path / "work").glob("*/*.entry"))) == 15
    list(batches(shared.source, replace(PREPROCESS, std=(1.0, 1.0, 1.0)), range(5), 2))
    assert len(list((tmp_path / "work").glob("*/*.entry"))) == 15  # normalisation comes later


def test_plain_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    images = Images(source=bundled("evaluation"), indices=(0,), labels=None)
    assert not isinstance(prepared(images, SharedWork(tmp_path, 2**30)).source, PreparedImages)
