"""What `--max-drop` asks of calibration images and of finished files."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_samples import SEEN, made

from rexnet_export.pipeline.core.errors import DataError, GateFailed
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.export.max_drop import judges_for, require_drop
from rexnet_export.pipeline.proof.results import FileResult, TargetResult


def losing(drop: float) -> FileResult:
    return replace(made("net-int8.ort"), accuracy=replace(SEEN, drop=drop, n=500))


def target(artifact: FileResult, preset: FileResult) -> TargetResult:
    read = NotMeasured(reason="a test")
    return TargetResult(precision="int8", artifact=artifact, presets={"x86": preset}, qparams_read=read)


@pytest.mark.parametrize(
    ("points", "judges", "images", "wanted"),
    [(None, 170, 512, 170), (None, 0, 1, 0), (0.5, 170, 512, 200), (0.5, 0, 400, 200), (5.0, 170, 512, 170)],
)
def test_one_held_back_image_is_no_more_than_the_drop(
    points: float | None, judges: int, images: int, wanted: int
) -> None:
    assert judges_for(points, judges, images) == wanted


def test_too_few_images_to_judge_by_are_refused() -> None:
    with pytest.raises(DataError, match=r"--max-drop 0\.5 is judged by 200 .* half of 399 are too few: give 400"):
        judges_for(0.5, 133, 399)


def test_files_within_the_drop_pass() -> None:
    require_drop(0.5, {"ort": target(losing(0.005), losing(-0.02))})
    require_drop(0.35, {"ort": target(losing(0.0035), losing(0.0))})  # 100 * 0.0035 is a little more than 0.35
    require_drop(None, {"ort": target(losing(0.5), losing(0.5))})


def test_every_file_that_loses_more_is_named() -> None:
    with pytest.raises(GateFailed) as caught:
        require_drop(0.5, {"ort": target(losing(0.006), losing(0.08)), "tflite": target(losing(0.004), losing(0.004))})
    assert str(caught.value).startswith(
        "--max-drop 0.5 is not kept: ort loses 0.60 points on 500 images, ort x86 loses 8.00 points on 500 images; "
    )
    assert caught.value.exit_code == 1


def test_float_files_and_unlabelled_images_bound_nothing() -> None:
    unlabelled = replace(losing(0.9), accuracy=NotMeasured(reason="no labels"))
    require_drop(0.5, {"ort": target(unlabelled, unlabelled)})
    require_drop(0.5, {"gpu": replace(target(losing(0.9), losing(0.9)), precision="fp32")})
