"""timm's training options and config.json become statements with their source, each value checked."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.checkpoint.metadata import StatedPreprocess
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

STATE = ReXNet(architecture(width=0.1, classes=2)).state_dict()
UNSET = {"model": "rexnet_100", "crop_pct": None, "interpolation": "", "mean": None, "std": None, "img_size": None}


def of_timm(folder: Path, **args: object) -> Path:
    """What timm's train.py leaves behind."""
    path = folder / "model_best.pth.tar"
    torch.save({"arch": "rexnet_100", "state_dict": STATE, "args": argparse.Namespace(**{**UNSET, **args})}, path)
    return path


def test_timm_options_are_statements_and_unset_ones_are_the_networks_defaults(tmp_path: Path) -> None:
    path = of_timm(tmp_path, mean=[0.5, 0.5, 0.5], std=(0.25,), img_size=192, crop_pct=1.0)
    checkpoint = load_checkpoint(path)
    stated = checkpoint.stated.preprocess
    assert checkpoint.preprocess is not None
    assert checkpoint.preprocess.std == (0.25, 0.25, 0.25)
    assert stated == StatedPreprocess(
        size=(192, 192),
        crop_ratio=1.0,
        crop_mode="center",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.25,),
        sources=dict.fromkeys(("size", "crop_ratio", "crop_mode", "interpolation", "mean", "std"), "args"),
    )


def test_the_input_size_may_be_rectangular_and_wins_over_the_image_size(tmp_path: Path) -> None:
    assert load_checkpoint(of_timm(tmp_path, img_size=224, input_size=(3, 160, 80))).stated.preprocess.size == (160, 80)


def test_the_widest_rexnetr_were_trained_with_less_cropping(tmp_path: Path) -> None:
    assert load_checkpoint(of_timm(tmp_path, model="rexnetr_200")).stated.preprocess.crop_ratio == 0.95


def test_options_of_another_program_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": STATE, "args": {"mean": [0.1, 0.2, 0.3], "lr": 1}}, path)
    assert load_checkpoint(path).stated.preprocess == StatedPreprocess()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_pct", 7),
        ("interpolation", "cubic"),
        ("mean", [1, "2"]),
        ("mean", [0.5] * 65),
        ("mean", [1, 2]),
        ("std", 0),
        ("img_size", "x"),
        ("img_size", True),
    ],
)
def test_values_that_make_no_sense_are_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=r"preprocess of .*model_best"):
        load_checkpoint(of_timm(tmp_path, **{key: value}))


@pytest.mark.parametrize(
    "words",
    [
        {"class_names": ["cat", "dog"]},
        {"classes": ("cat", "dog")},
        {"class_to_idx": {"dog": 1, "cat": 0}},
        {"hyper_parameters": {"idx_to_class": {1: "dog", 0: "cat"}}},
        {"args": {"class_names": ["cat", "dog"]}},
        {"class_names": np.array(["cat", "dog"])},
        {"classes": np.array(["cat", "dog"], object)},
    ],
)
def test_class_names_are_read_where_training_scripts_put_them(tmp_path: Path, words: dict[str, object]) -> None:
    torch.save({"state_dict": STATE, **words}, tmp_path / "a.pth")
    stated = load_checkpoint(tmp_path / "a.pth").stated
    assert (stated.labels, stated.labels_source) == (("cat", "dog"), "checkpoint")


def test_a_label_that_is_no_text_is_refused_before_a_format_fails_over_it(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "class_names": ["cat", "\ud800"]}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"names the label '.ud800', which is no Unicode text"):
        load_checkpoint(tmp_path / "a.pth")


def config(folder: Path, **values: object) -> Path:
    save_file(STATE, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    return folder / "model.safetensors"


def test_a_config_beside_the_file_serves_where_it_is_a_rexnets(tmp_path: Path) -> None:
    cfg = {"input_size": [3, 288, 288], "crop_mode": "squash"}
    path = config(tmp_path, architecture="rexnet_100", pretrained_cfg=cfg, id2label={"0": "cat", "1": "dog"})
    stated = load_checkpoint(path).stated
    assert (stated.preprocess.size, stated.preprocess.crop_mode, stated.preprocess.mean) == ((288, 288), "squash", None)
    assert (stated.labels, stated.labels_source) == (("cat", "dog"), "config.json")
    config(tmp_path, architecture="resnet50", pretrained_cfg={**cfg, "crop_pct": 7})
    assert load_checkpoint(path).stated.preprocess == StatedPreprocess()


def test_the_file_itself_wins_over_its_config(tmp_path: Path) -> None:
    config(tmp_path, architecture="rexnet_100", pretrained_cfg={"input_size": [3, 288, 288]}, label_names=["a", "b"])
    stated = load_checkpoint(of_timm(tmp_path, img_size=64)).stated
    assert (stated.preprocess.size, stated.labels_source) == ((64, 64), "config.json")
