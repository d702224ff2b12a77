"""Which images a bundle carries: those of a folder with a list of labels too, and none where there are no classes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from rexnet_export.apps.bench.bundle.make_bundle import _images
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.pipeline.data.sources import bundled

CARD = ModelCard(name="tiny", labels=("cat", "dog"), preprocess=Preprocess(size=32), checkpoint_sha256="0" * 64)


def asked(folder: Path | None, labels: Path | None) -> argparse.Namespace:
    return argparse.Namespace(eval_data=folder, eval_labels=labels, images=2, seed=0)


def test_a_list_gives_the_labels_of_one_folder(tmp_path: Path) -> None:
    for index in range(2):
        bundled("evaluation").load(index).save(tmp_path / f"{index}.png")
    (tmp_path / "list.csv").write_text("filename,label\n0.png,dog\n1.png,cat\n", encoding="utf-8")
    found = _images(asked(tmp_path, tmp_path / "list.csv"), CARD, Silent())
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]


def test_what_has_no_images_or_no_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--eval-labels l\.csv: name the images' folder with --eval-data"):
        _images(asked(None, Path("l.csv")), CARD, Silent())
    with pytest.raises(DataError, match="tiny gives no classes: a bundle measures top-1"):
        _images(asked(tmp_path, None), replace(CARD, labels=(), numbers=1), Silent())
