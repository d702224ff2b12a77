"""Heads in the float graph: every activation exactly, in operators that every format has in INT8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from depths import SHORT

from rexnet_export.pipeline.core.records import ACTIVATIONS, Activation, Preprocess
from rexnet_export.pipeline.graph.check_parity import check_parity
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.graph.onnx_outputs import onnx_outputs
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.head import OtherHead
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.learned.logit_slopes import logit_slopes
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.scheme import observed_tensors, plan

SMALL = Preprocess(size=32)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
TOLD = [activation for activation in ACTIVATIONS if activation != "none"]


def network(activation: Activation, *, age: tuple[int, ...] = (4,)) -> ReXNet:
    torch.manual_seed(1)
    spec = architecture(width=0.1, classes=5, stages=SHORT)
    others = (OtherHead(name="age", outputs=1, hidden=age),)
    made = ReXNet(replace(spec, hidden=(9, 7), activation=activation, others=others)).eval()
    for layer in made.head.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=1.0)  # both sides of every activation are reached
    return made


@pytest.mark.parametrize("activation", TOLD)
def test_the_graph_computes_every_head_as_torch_does(activation: Activation, tmp_path: Path) -> None:
    made, path = network(activation), tmp_path / "float.onnx"
    onnx.save(float_graph(made, SMALL), path)
    parity = check_parity(made, path, PIXELS, SMALL)
    assert list(parity.outputs) == ["logits", "head.age"]
    assert max(each.largest_difference / each.largest for each in parity.outputs.values()) < 1e-5


@pytest.mark.parametrize("activation", TOLD)
def test_every_operator_of_a_head_has_an_int8_form(activation: Activation) -> None:
    entries = plan(view(float_graph(network(activation), SMALL)))
    assert {"logits", "head.age", "logits.hidden.1", "head.age.hidden.0"} <= entries.keys()
    assert all(entry.decision != "float" for entry in entries.values())


def test_slopes_are_those_of_all_heads_in_one_unit(tmp_path: Path) -> None:
    """What only the other head reads must not be free to round, however small its numbers are."""
    from rexnet_export.quantization.calibration.observe import observe  # noqa: PLC0415

    made, path = network("relu"), tmp_path / "float.onnx"
    with torch.no_grad():
        made.head.others["age_out"][2].weight *= 1e-3
        made.head.others["age_out"][2].bias *= 1e-3
    model = float_graph(made, SMALL)
    onnx.save(model, path)
    slopes = logit_slopes(model, observe(path, [PIXELS], observed_tensors(model)), PIXELS)
    own = slopes["head.age"].by_channel.sum()
    scale = [np.square(values).mean() for values in onnx_outputs(path)(PIXELS).values()]
    assert own == pytest.approx(slopes["logits"].by_channel.sum() / 5 * scale[0] / scale[1], rel=1e-3)
