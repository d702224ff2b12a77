"""Labels that are given to a network that states its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_export import small_checkpoint

from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.load import load, save_checkpoint
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.export.inputs import Inputs, gather
from rexnet_export.pipeline.export.options import Options

OWN = bundled("evaluation").class_names or ()


def gathered(tmp_path: Path, names: tuple[str, ...]) -> Inputs:
    """What an export of a network with the bundled labels works on where these are given."""
    labels = tmp_path / "names.txt"
    labels.write_text("\n".join(names))
    return gather(
        Options(checkpoint=str(small_checkpoint(tmp_path / "a.safetensors")), precision="fp32", labels=labels)
    )


def test_the_checkpoints_own_labels_need_no_notice(tmp_path: Path) -> None:
    assert gathered(tmp_path, OWN).notices == ()


@pytest.mark.parametrize("spelled", [str, str.upper])
def test_its_labels_in_another_order_are_refused(tmp_path: Path, spelled: type[str]) -> None:
    swapped = tuple(map(spelled, (OWN[0], OWN[2], OWN[1], *OWN[3:])))
    found = (
        rf"another order: class 1 is '{swapped[1]}' in the file and 'Trouser' in the checkpoint; leave --labels out, "
        "or show that the file is right: --eval-data DIR"
    )
    with pytest.raises(DataError, match=found):
        gathered(tmp_path, swapped)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Some evaluation images, a folder for each class."""
    source = bundled("evaluation")
    assert source.labels is not None
    for index, label in enumerate(source.labels[:200]):
        folder = tmp_path / "photos" / OWN[label].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        source.load(index).save(folder / f"{index}.png")
    return tmp_path / "photos"


def trained(tmp_path: Path, stated: tuple[str, ...], given: tuple[str, ...], photos: Path) -> Inputs:
    """What an export of the trained network works on, which states the labels in this order."""
    known = load(str(bundled_checkpoint()))
    path, names = tmp_path / "stated.safetensors", tmp_path / "names.txt"
    preprocess = Preprocess(**known.stated.preprocess.fields())
    save_checkpoint(path, known.network, labels=stated, preprocess=preprocess, metadata={}, half=False)
    names.write_text("\n".join(given))
    return gather(Options(checkpoint=str(path), precision="fp32", labels=names, eval_data=photos, eval_images=50))


def test_the_order_of_a_file_is_taken_where_the_network_answers_in_it(tmp_path: Path, photos: Path) -> None:
    swapped = (OWN[0], OWN[2], OWN[1], *OWN[3:])
    inputs = trained(tmp_path, swapped, OWN, photos)
    assert inputs.card.labels == OWN
    (notice,) = (line for line in inputs.notices if "order" in line)
    assert notice.startswith(
        "classes are in the order of names.txt, not the checkpoint's: class 1 is 'Trouser' in the file and 'Pullover' "
        "in the checkpoint, and the float network has top-1 "
    )


def test_an_order_that_the_network_does_not_answer_in_is_refused(tmp_path: Path, photos: Path) -> None:
    swapped = (OWN[0], OWN[2], OWN[1], *OWN[3:])
    found = "in the checkpoint; leave --labels out: in the file's order the float network has top-1 "
    with pytest.raises(DataError, match=found):
        trained(tmp_path, OWN, swapped, photos)


def test_an_order_that_no_image_speaks_of_is_refused(tmp_path: Path, photos: Path) -> None:
    for name in OWN[1:3]:
        shutil.rmtree(photos / name)
    with pytest.raises(DataError, match="leave --labels out: no image of photos is of a class whose place differs"):
        trained(tmp_path, OWN, (OWN[0], OWN[2], OWN[1], *OWN[3:]), photos)


def test_other_names_are_taken_and_said(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, (OWN[0], "Hose", *OWN[2:]))
    assert inputs.card.labels[1] == "Hose"
    expected = "labels of names.txt replace those of the checkpoint, 1 of 10: class 1 is 'Hose', not 'Trouser'"
    assert expected in inputs.notices
