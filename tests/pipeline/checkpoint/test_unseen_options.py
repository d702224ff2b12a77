"""What no tensor shows is refused where the file or its config.json says it, and only there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

STATE = ReXNet(architecture(width=0.1, classes=2)).state_dict()
OTHER = [
    ("gp", "max"),
    ("gp", "avgmax"),
    ("act_layer", "relu"),
    ("dw_act_layer", "silu"),
    ("output_stride", 16),
    ("bn_eps", 1e-3),
]
USUAL: list[tuple[str, Any]] = [
    *(("gp", value) for value in ("avg", "fast", "fastavg", "", None)),
    *(("act_layer", value) for value in ("swish", "SiLU", "silu")),
    *(("dw_act_layer", "relu6"), ("output_stride", 32), ("bn_eps", 1e-5), ("bn_eps", None)),
]


def saved(folder: Path, **beside: object) -> Path:
    torch.save({"state_dict": STATE, **beside}, folder / "a.pth")
    return folder / "a.pth"


@pytest.mark.parametrize(("name", "value"), OTHER)
@pytest.mark.parametrize("place", ["args", "model_kwargs", "hyper_parameters", "config", "model_args"])
def test_another_network_is_refused_by_the_name_of_its_option(
    tmp_path: Path, name: str, value: object, place: str
) -> None:
    match place:
        case "args":
            path = saved(tmp_path, args=argparse.Namespace(**{name: value}))
        case "model_kwargs":
            path = saved(tmp_path, args=argparse.Namespace(model_kwargs={name: value}))
        case "hyper_parameters":
            path = saved(tmp_path, hyper_parameters={name: value})
        case _:
            path = saved(tmp_path)
            inside = {name: value} if place == "config" else {"model_args": {name: value}}
            (tmp_path / "config.json").write_text(json.dumps({"architecture": "rexnet_100", **inside}))
    with pytest.raises(CheckpointError, match=rf"says {name} .* is exported: train the network with that"):
        load_checkpoint(path)


@pytest.mark.parametrize(("name", "value"), USUAL)
def test_the_usual_ones_are_read(tmp_path: Path, name: str, value: object) -> None:
    args = argparse.Namespace(**{name: value}, model_kwargs={name: value})
    assert load_checkpoint(saved(tmp_path, args=args)).network.spec.classes == 2
