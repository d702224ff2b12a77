"""What an export works on, and what it says it had to assume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from depths import SHORT
from PIL import Image
from small_export import small_checkpoint

from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.export.inputs import gather, gather_backbone
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """Weights of a 10-class network and nothing else."""
    path = tmp_path / "bare.pth"
    torch.manual_seed(0)
    torch.save(ReXNet(architecture(width=0.5, classes=10, stages=SHORT)).state_dict(), path)
    return str(path)


def test_what_a_bare_file_does_not_state_is_told(bare: str) -> None:
    inputs = gather(Options(checkpoint=bare, precision="fp32", image_size=64, mean=(0.5, 0.5, 0.5)))
    assert "crop mode center, crop ratio 0.875, interpolation bicubic, std 0.229" in inputs.notices[0]
    assert inputs.card.preprocess_source["mean"] == "flags"
    assert inputs.card.preprocess_source["crop_mode"] == "assumed"


def test_a_backbone_is_told_nothing_of_class_names(bare: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    options = Options(checkpoint=bare, precision="fp32", image_size=32, eval_data=tmp_path, calibration_data=tmp_path)
    assert any("class names assumed" in notice for notice in gather(replace(options, eval_data=None)).notices)
    assert not any("class names" in notice for notice in gather_backbone(options, Silent()).notices)


def test_labels_of_a_file_that_says_it_gives_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "numbers.safetensors"
    network = load_checkpoint(small_checkpoint(tmp_path / "a.safetensors")).network
    save_checkpoint(path, network, labels=(), preprocess=None, metadata={}, half=False)
    with pytest.raises(UsageError, match=r"--labels names\.txt: a network that gives numbers has no classes"):
        gather(Options(checkpoint=str(path), precision="fp32", labels=Path("names.txt")))


def test_a_checkpoint_that_states_all_needs_no_notice(tmp_path: Path) -> None:
    inputs = gather(Options(checkpoint=str(small_checkpoint(tmp_path / "a.safetensors")), precision="fp32"))
    assert inputs.notices == ()
    assert set(inputs.card.preprocess_source.values()) == {"metadata"}


def photos(folder: Path, shades: range) -> Path:
    """A folder with a class of bundled name for each grey image."""
    for shade in shades:
        place = folder / ("Coat" if shade % 2 else "Bag") / f"{folder.name}{shade}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (shade,) * 3).save(place)
    return folder


@pytest.mark.parametrize(("calibrated", "said"), [(range(8), "4 of 4"), (range(3), "3 of 4"), (range(10, 20), None)])
def test_evaluation_images_that_also_set_the_ranges_are_counted(
    tmp_path: Path, calibrated: range, said: str | None
) -> None:
    """By what is stored: copies under other names count."""
    checkpoint = str(small_checkpoint(tmp_path / "a.safetensors"))
    evaluation = photos(tmp_path / "val", range(4))
    calibration = photos(tmp_path / "other", calibrated)
    options = Options(checkpoint=checkpoint, eval_data=evaluation, calibration_data=calibration)
    found = [notice for notice in gather(options).notices if "INT8 ranges" in notice]
    assert [notice.partition(" evaluation images are among")[0] for notice in found] == ([said] if said else [])


def test_photos_that_are_stored_turned_are_counted(bare: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(4):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number}.jpg", exif=exif)
    notices = gather(Options(checkpoint=bare, image_size=64, calibration_data=tmp_path)).notices
    assert [notice for notice in notices if notice.startswith("3 of the first 3 calibration images are stored turned")]
    assert [notice for notice in notices if notice.startswith("1 of the first 1 evaluation images are stored turned")]


@pytest.mark.parametrize("turned", [True, False])
def test_of_a_backbone_the_images_that_it_is_evaluated_on_are_counted(
    bare: str, tmp_path: Path, *, turned: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder, count in ("turned", 10), ("upright", 2):
        (tmp_path / folder).mkdir()
        for number in range(count):
            photo = Image.new("RGB", (32, 32), (number, 0, 0))
            photo.save(tmp_path / folder / f"{number}.jpg", **({"exif": exif} if folder == "turned" else {}))
    calibration, evaluation = ("upright", "turned") if turned else ("turned", "upright")
    options = Options(
        checkpoint=bare, image_size=64, calibration_data=tmp_path / calibration, eval_data=tmp_path / evaluation
    )
    inputs = gather_backbone(options, Silent())
    assert len(inputs.evaluation.indices) == (10 if turned else 2)
    found = [notice for notice in inputs.notices if "evaluation images are stored turned" in notice]
    assert [notice.partition(" are")[0] for notice in found] == (
        ["10 of the first 10 evaluation images"] if turned else []
    )


def test_labels_that_are_put_in_order_are_said(bare: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(f"{9 - number} {name}" for number, name in enumerate("jihgfedcba")))
    inputs = gather(Options(checkpoint=bare, precision="fp32", image_size=64, labels=tmp_path / "names.txt"))
    assert inputs.card.labels == tuple("abcdefghij")
    assert [notice for notice in inputs.notices if notice.startswith("classes go by the numbers in names.txt")]
