"""What a series of exports asks for, and how its growth is told; no export is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import effort
import growth
import pytest
from growth import Point

from rexnet_export.pipeline.checkpoint.load import load_checkpoint


def point(value: float, work: int, processor_s: float, series: str = "images") -> Point:
    return Point(series=series, value=value, macs=work, images=10, seconds=9.5, processor_s=processor_s, peak_gib=1.25)


POINTS = [
    point(1, 100, 5),
    point(2, 200, 10),
    point(4, 400, 30),
    point(64, 100, 8, "pixels"),
    point(128, 400, 16, "pixels"),
]


def test_growth_is_that_of_time_over_that_of_work() -> None:
    lines = growth.table(POINTS).splitlines()[2:]
    assert [line.split(" | ")[-1].strip("| ") for line in lines] == ["", "1.00", "1.50", "", "0.50"]
    assert lines[2].startswith("| images | 4 | 10 | 0 | 30.0 | 1.25 |")


def test_points_read_back(tmp_path: Path) -> None:
    growth.write(POINTS, tmp_path / "a.csv")
    assert growth.read(tmp_path / "a.csv") == POINTS


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for name in "ab":
        growth.draw(POINTS, tmp_path / name)
    picture = (tmp_path / "a").read_bytes()
    assert picture == (tmp_path / "b").read_bytes()
    assert picture.startswith(b"<?xml")


@pytest.mark.parametrize(
    ("series", "value", "pixels", "images", "width"),
    [("images", 1000, "64", "1000", 1.0), ("pixels", 32, "32", "500", 1.0), ("width", 0.5, "64", "500", 0.5)],
)
def test_one_thing_grows_at_a_time(
    series: str, value: float, pixels: str, images: str, width: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    widths: list[float] = []

    def measured(flags: Sequence[str]) -> tuple[float, float, float]:
        asked.extend(flags)
        network = load_checkpoint(Path(asked[asked.index("--checkpoint") + 1])).network
        widths.append(network.spec.width)
        return 1.0, 2.0, 3.0

    monkeypatch.setattr(effort, "measured", measured)
    found = growth.measured(series, value)
    assert (asked[asked.index("--image-size") + 1], asked[asked.index("--eval-images") + 1]) == (pixels, images)
    assert widths == [width]
    assert (found.images, found.processor_s, found.peak_gib) == (int(images) + 128, 2.0, 3.0)
    assert found.work == found.macs * found.images
