"""Wrong preprocessing and a wrong order of classes are noticed by what the float network answers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from depths import SHORT
from numpy.typing import NDArray
from PIL import Image

from rexnet_export.pipeline.accuracy.preprocess_check import PreprocessCheck, check_preprocess
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images, labelled_images
from rexnet_export.pipeline.data.sources import open_source
from rexnet_export.pipeline.export.inputs import gather
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.labels.class_names import in_natural_order
from rexnet_export.pipeline.model import torch_session
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.model.torch_session import open_reference

CLASSES = 10


class Stripe(torch.nn.Module):
    """Answers with the place of the brightest of ten columns: what a squash moves, and a crop cuts off."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[N, 3, S, S] -> [N, 10]."""
        return torch.nn.functional.adaptive_avg_pool2d(pixels.mean(1), (1, CLASSES))[:, 0]


def striped(folder: Path, names: list[str], each: int = 12) -> Path:
    """Photos 160 x 90, one folder per name; the n-th folder's have their n-th column bright."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 120, (90, 160, 3), dtype=np.uint8)
            pixels[:, place * 16 : place * 16 + 16] += 100
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> ReXNet:
    """A ReXNet in name, whose session asks `Stripe`."""
    monkeypatch.setattr(torch_session.TorchSession, "run", _stripe)
    return ReXNet(architecture(width=0.5, classes=CLASSES, stages=SHORT))


def _stripe(_session: torch_session.TorchSession, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = Stripe()(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    return logits


def judged(network: ReXNet, folder: Path, preprocess: Preprocess) -> PreprocessCheck:
    source = open_source(folder, labelled=True)
    indices = tuple(range(len(source)))
    images = Images(source=source, indices=indices, labels=np.asarray(source.labels, np.int64))
    result = check_preprocess(partial(open_reference, network), images, preprocess, Silent())
    assert not isinstance(result, NotMeasured)
    return result


def test_a_centre_crop_of_a_squashed_network_is_noticed(network: ReXNet, tmp_path: Path) -> None:
    folder = striped(tmp_path / "wide", [f"c{index}" for index in range(CLASSES)])
    right = Preprocess(size=64, crop_mode="squash", crop_ratio=1.0)
    found = judged(network, folder, Preprocess(size=64))
    assert found.better is not None
    assert found.better.flags == "--crop-mode squash --crop-ratio 1"
    assert found.better.paired.top1 > 0.95
    assert found.better.paired.present_top1 < 0.7
    assert found.notice is not None
    assert "--crop-mode squash --crop-ratio 1 gives the float network top-1" in found.notice
    quiet = judged(network, folder, right)
    assert (quiet.better, quiet.notice) == (None, None)
    assert len(quiet.tried) >= 3


def test_square_images_make_squash_and_centre_one_thing(network: ReXNet, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (50, 50)).save(tmp_path / "a" / "0.png")
    found = judged(network, tmp_path, Preprocess(size=64, crop_ratio=1.0))
    assert not [each for each in found.tried if each.changes.get("crop_mode") == "squash"]


def test_unlabelled_images_judge_nothing(network: ReXNet, tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "0.png")
    images = Images(source=open_source(tmp_path, labelled=False), indices=(0,), labels=None)
    judged = check_preprocess(partial(open_reference, network), images, Preprocess(size=64), Silent())
    assert isinstance(judged, NotMeasured)


# The order of classes


def test_numbers_in_names_sort_as_numbers() -> None:
    assert in_natural_order(["10", "2", "1"]) == ("1", "2", "10")
    assert in_natural_order(["a10b2", "a9b10", "a10b1", "b"]) == ("a9b10", "a10b1", "a10b2", "b")
    assert in_natural_order(["9" * 5000, "007", "8"]) == ("007", "8", "9" * 5000)


@pytest.fixture
def numbered(network: ReXNet, tmp_path: Path) -> Options:
    """A bare checkpoint of the network, and folders 1 to 10 whose n-th in natural order is class n."""
    path = tmp_path / "bare.pth"
    torch.save(network.state_dict(), path)
    folder = striped(tmp_path / "photos", [str(number) for number in range(1, CLASSES + 1)])
    flags = {"crop_mode": "squash", "crop_ratio": 1.0, "image_size": 64}
    return Options(checkpoint=str(path), precision="fp32", eval_data=folder, **flags)  # type: ignore[arg-type]


def test_the_order_that_the_network_favours_is_taken_and_named(numbered: Options) -> None:
    inputs = gather(numbered)
    assert inputs.card.labels == tuple(str(number) for number in range(1, CLASSES + 1))
    (line,) = [notice for notice in inputs.notices if "classes are the folder names" in notice]
    assert "in natural order ('1', '2', '3', '4', '5' and 5 more), not in string order: the float network has" in line
    assert inputs.evaluation.labels is not None
    assert labelled_images(open_source(numbered.eval_data, labelled=True), inputs.card, None, 0).labels[0] == 0


def test_the_default_order_is_named_where_the_network_favours_it(numbered: Options, tmp_path: Path) -> None:
    names = sorted(str(number) for number in range(1, CLASSES + 1))
    folder = striped(tmp_path / "sorted", names)
    inputs = gather(replace(numbered, eval_data=folder))
    assert inputs.card.labels == tuple(names)
    assert any("in string order ('1', '10', '2'" in notice for notice in inputs.notices)


def test_a_tie_asks(numbered: Options, tmp_path: Path) -> None:
    folder = striped(tmp_path / "few", [str(number) for number in range(1, CLASSES + 1)], each=1)
    for name in ("2", "3", "4", "5", "6", "7", "8", "9", "10"):
        Image.new("RGB", (160, 90)).save(folder / name / "0.png")
    with pytest.raises(UsageError, match=r"sort in two ways.*--class-order string for '1', '10'.*natural for '1', '2'"):
        gather(replace(numbered, eval_data=folder))
    asked = gather(replace(numbered, eval_data=folder, class_order="string"))
    assert asked.card.labels[:3] == ("1", "10", "2")


def test_some_classes_of_the_network_are_said_to_be_some(numbered: Options, tmp_path: Path) -> None:
    folder = striped(tmp_path / "some", ["0", "1", "2"])
    inputs = gather(replace(numbered, eval_data=folder))
    assert "some has images of 3 of the 10 classes; top-1 is over all 10" in inputs.notices
    assert any(notice.startswith("class names assumed") for notice in inputs.notices)
