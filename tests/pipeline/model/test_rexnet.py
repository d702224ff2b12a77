"""The network against the published figures, the block table of its paper, and timm's implementation."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_checkpoints import randomized
from torch import nn

from rexnet_export.pipeline.model.architecture import Architecture, Variant, architecture
from rexnet_export.pipeline.model.rexnet import ReXNet, cost

# width, stem, block outputs, penultimate, parameters, multiply-accumulates at 224 px in units of 10^9.
V1 = [
    (0.9, 32, "16 26 36 46 56 67 77 87 97 107 117 127 138 148 158 168", 1152, 4_091_257, 0.348),
    (1.0, 32, "16 27 38 50 61 72 84 95 106 117 128 140 151 162 174 185", 1280, 4_796_873, 0.3984),
    (1.1, 35, "18 30 42 55 67 79 92 104 117 129 141 154 166 178 191 203", 1408, 5_642_328, 0.481),
    (1.2, 38, "19 33 46 60 73 87 100 114 127 141 154 168 181 195 208 222", 1536, 6_568_698, 0.567),
    (1.3, 42, "21 35 50 65 79 94 109 123 138 152 167 182 196 211 226 240", 1664, 7_557_091, 0.662),
    (1.4, 45, "22 38 54 70 85 101 117 133 148 164 180 196 211 227 243 259", 1792, 8_606_611, 0.762),
    (1.5, 48, "24 41 58 75 92 108 125 142 159 176 193 210 226 243 260 277", 1920, 9_728_593, 0.876),
    (2.0, 64, "32 54 77 100 122 144 167 190 212 234 257 280 302 324 347 370", 2560, 16_366_620, 1.529),
    (2.2, 70, "35 60 85 109 134 159 184 208 233 258 283 307 332 357 382 406", 2816, 19_485_308, 1.843),
    (3.0, 96, "48 82 116 149 183 217 250 284 318 352 386 419 453 487 520 554", 3840, 34_708_792, 3.396),
]
LITE = [
    (1.0, 32, "16 32 40 48 64 72 80 96 104 112 128 136 144 160 168 184", 1280, 4_740_056, 0.407),
    (1.3, 40, "24 32 48 64 80 96 104 120 136 152 160 176 192 208 224 232", 1664, 6_747_960, 0.646),
    (1.5, 48, "24 40 56 72 88 104 120 136 152 176 192 208 224 240 256 272", 1920, 8_332_296, 0.836),
    (2.0, 64, "32 56 80 96 120 144 160 184 208 232 248 272 296 320 336 360", 2560, 12_966_200, 1.498),
]
PUBLISHED: list[tuple[Variant, float, int, str, int, int, float]] = [
    *(("v1", *row) for row in V1),
    *(("lite", *row) for row in LITE),
]

# Table 8 of the paper for width 1.0: stride, expanded width, squeeze width, output, resolution, shortcut.
TABLE_8 = [
    (1, 32, 0, 16, 112, False),
    (2, 96, 0, 27, 56, False),
    (1, 162, 0, 38, 56, True),
    (2, 228, 19, 50, 28, False),
    (1, 300, 25, 61, 28, True),
    (2, 366, 30, 72, 14, False),
    (1, 432, 36, 84, 14, True),
    (1, 504, 42, 95, 14, True),
    (1, 570, 47, 106, 14, True),
    (1, 636, 53, 117, 14, True),
    (1, 702, 58, 128, 14, True),
    (2, 768, 64, 140, 7, False),
    (1, 840, 70, 151, 7, True),
    (1, 906, 75, 162, 7, True),
    (1, 972, 81, 174, 7, True),
    (1, 1044, 87, 185, 7, True),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row[0]}-{row[1]}")
def test_every_published_width_has_its_channels_parameters_and_macs(
    row: tuple[Variant, float, int, str, int, int, float],
) -> None:
    variant, width, stem, outputs, penultimate, parameters, giga_macs = row
    spec = architecture(variant, width)
    assert spec.stem == stem
    assert [block.outputs for block in spec.blocks] == [int(channels) for channels in outputs.split()]
    assert spec.penultimate == penultimate
    counted = cost(spec)
    assert counted.parameters == parameters
    assert round(counted.macs / 1e9, 4 if giga_macs == 0.3984 else 3) == giga_macs


def test_rexnetr_rounds_channels_to_eight_and_sixteen() -> None:
    spec = architecture("r", 1.0)
    outputs = [16, 32, 40, 48, 64, 72, 88, 96, 104, 120, 128, 144, 152, 160, 176, 184]
    assert [block.outputs for block in spec.blocks] == outputs
    assert round(cost(spec).macs / 1e9, 3) == 0.419
    parameters = [round(cost(architecture("r", width)).parameters / 1e6, 2) for width in (1.0, 1.3, 1.5, 2.0, 3.0)]
    assert parameters == [4.88, 7.61, 9.78, 16.52, 34.81]
    assert all(block.outputs % 16 == 0 for block in architecture("r", 3.0).blocks)


def test_blocks_are_those_of_table_8() -> None:
    spec = architecture()
    resolutions = []
    with torch.device("meta"):
        network = ReXNet(spec).eval()
        for block in network.features[:-1]:
            block.register_forward_hook(lambda _module, _inputs, output: resolutions.append(output.shape[-1]))
        network(torch.empty(1, 3, 224, 224))
    blocks = zip(spec.blocks, resolutions, strict=True)
    found = [(b.stride, b.expanded, b.squeeze, b.outputs, resolution, b.residual) for b, resolution in blocks]
    assert found == TABLE_8
    assert spec.penultimate == 1280
    assert [block.expands for block in spec.blocks] == [False] + [True] * 15


ACTIVATIONS = {"exp": nn.SiLU, "dw": nn.ReLU6}


def test_activations_are_where_the_paper_puts_them() -> None:
    """SiLU after the stem, each expansion and the head; ReLU6 after the depthwise convolution's gate."""
    seen = []
    network = ReXNet(architecture()).eval()
    for name, module in network.named_modules():
        if isinstance(module, nn.SiLU | nn.ReLU6):
            module.register_forward_hook(lambda module, _inputs, _output, name=name: seen.append((name, type(module))))
    projected: list[torch.Tensor] = []
    for block in network.features[:-1]:
        block.conv_pwl.register_forward_pre_hook(lambda _module, inputs: projected.append(inputs[0]))
        nn.init.normal_(block.conv_dw.bn.weight, std=9)
    with torch.no_grad():
        network(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 9)
    wider = [(f"features.{block}.act_{part}", kind) for block in range(1, 16) for part, kind in ACTIVATIONS.items()]
    assert seen == [("act", nn.SiLU), ("features.0.act_dw", nn.ReLU6), *wider, ("act", nn.SiLU)]
    assert len(projected) == 16
    assert all(float(x.min()) == 0 and float(x.max()) <= 6 for x in projected)
    assert max(float(x.max()) for x in projected) == 6


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("rexnet_100", architecture("v1", 1.0)),
        ("rexnet_130", architecture("v1", 1.3)),
        ("rexnet_150", architecture("v1", 1.5)),
        ("rexnet_200", architecture("v1", 2.0)),
        ("rexnet_300", architecture("v1", 3.0)),
        ("rexnetr_200", architecture("r", 2.0)),
        ("rexnetr_300", architecture("r", 3.0)),
    ],
)
def test_logits_agree_with_timm(name: str, spec: Architecture) -> None:
    with torch.device("meta"):
        reference, network = timm.create_model(name), ReXNet(spec)
    reference = randomized(reference.to_empty(device="cpu"))
    network.load_state_dict(reference.state_dict(), assign=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = reference(images), network.eval()(images)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5
