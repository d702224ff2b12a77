"""A ReXNet and a MobileNetV2 of equal multiply-accumulates, trained the same way."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import nn

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import done, rate
from rexnet_export.apps.study.common.bottleneck_network import (
    BottleneckNetwork,
    cost_of,
    mobilenet_v2_of,
    save_network,
)
from rexnet_export.apps.study.control_command import CONTROL
from rexnet_export.apps.train.distributed import world
from rexnet_export.apps.train.recipe import Recipe
from rexnet_export.apps.train.trainer import Trainer
from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.files import try_file, writing
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource, check_images, training_images
from rexnet_export.pipeline.data.subset import some
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet, cost


def run(options: argparse.Namespace, terminal: Terminal) -> None:
    """Train both and write `rexnet_NNN.safetensors` and `control.safetensors`."""
    recipe: Recipe = options.recipe
    size: int = options.image_size
    training, evaluation, labels = training_images(options.data, options.eval_data, None)
    evaluation = some(evaluation, options.eval_images, options.seed)
    for source in (training, evaluation):
        check_images(source, range(len(source)), progress=terminal)
    preprocess = Preprocess(size=size, crop_ratio=1.0)
    spec = architecture(width=options.width, classes=len(labels))
    path = options.output / f"{spec.name}.safetensors"
    with writing(options.output):
        for place in (path, options.output / CONTROL):
            try_file(place)
    macs = cost(spec, size).macs
    plan = mobilenet_v2_of(macs, size, len(labels))
    terminal.note(f"{spec.name}: {macs:,} multiply-accumulates; {plan.name}: {cost_of(plan, size).macs:,}")
    network = _trained(lambda: ReXNet(spec), recipe, preprocess, training, evaluation, terminal)
    assert isinstance(network, ReXNet)
    with writing(options.output):
        save_checkpoint(path, network, labels=labels, preprocess=preprocess, metadata={}, half=False)
    control = _trained(lambda: BottleneckNetwork(plan), recipe, preprocess, training, evaluation, terminal)
    assert isinstance(control, BottleneckNetwork)
    with writing(options.output):
        save_network(options.output / CONTROL, control, preprocess, labels)
    ask = f"compare their ranks: rexnet-study rank --checkpoint {path} {options.output / CONTROL}"
    terminal.note(done(f"{path} and {CONTROL} are trained", ask))


def _trained(
    make: Callable[[], nn.Module],
    recipe: Recipe,
    preprocess: Preprocess,
    training: ImageSource,
    evaluation: ImageSource,
    terminal: Terminal,
) -> nn.Module:
    """The averaged weights after the recipe; both networks begin from the same seed."""
    torch.manual_seed(recipe.seed)
    trainer = Trainer(make(), recipe, preprocess, training, evaluation, world())
    for result in trainer.epochs(terminal, workers=0):
        terminal.note(
            f"{type(trainer.network).__name__} epoch {result.epoch}/{recipe.epochs}  loss {result.loss:.4f}  "
            f"top-1 {result.top1:.2%}  {rate(result.images_per_second, 'images')}"
        )
    averaged: nn.Module = trainer.averaged.module.eval()
    return averaged
