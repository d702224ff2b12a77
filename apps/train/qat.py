"""Quantization-aware fine-tuning: weights and biases learn to live with the rounding that a quantization table decides.

BatchNorm is folded first, the ranges of activations stay as calibrated, and the float network is the teacher
(distillation, Hinton et al. 2015). The result is a checkpoint of the trained network with its table inside, from which
every artifact is built without calibrating.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from rexnet_export.apps.train.distributed import World
from rexnet_export.apps.train.recipe import Recipe
from rexnet_export.apps.train.refold import STEM, refolded
from rexnet_export.apps.train.trainer import Finished, Trainer
from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY
from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import ImageSource, choose
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.search_table import find_table
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.learned.fake_quant import FakeQuantNetwork
from rexnet_export.quantization.onnx.view import model_sha256, view
from rexnet_export.quantization.rewrites.origins import origins, restored
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.quantization.table.table_file import table_text

TEMPERATURE = 4.0
ROUNDED = 1e-6  # by what float32 may change a weight that is divided by its factors and multiplied again


def starting_table(
    model: onnx.ModelProto, source: ImageSource, preprocess: Preprocess, options: Options, progress: Progress
) -> QuantTable:
    """The table that an export with these options would choose for a float graph from the source's images."""
    indices = tuple(choose(source, min(options.calibration_images, len(source)), options.seed))
    found = find_table(model, Images(source=source, indices=indices, labels=None), preprocess, options, progress)
    if found.searched:
        draft, judges = found.searched.draft, len(found.searched.judge.images)
        kept = ", ".join(trial.name for trial in draft.trials if trial.kept)
        close = f"{draft.score.sqnr_db:.1f} dB logit SQNR on {judges} held-back images"
        progress.note(f"INT8 before training: {close}; kept: {kept}")
    return found.table


def settled(model: onnx.ModelProto, table: QuantTable, frozen: Collection[str]) -> tuple[onnx.ModelProto, QuantTable]:
    """The same integers with corrections and learned rounding moved into the weights, where training can go on.

    What is `frozen` keeps its own.
    """
    changed, tensors = onnx.ModelProto(), dict(table.tensors)
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        entry = tensors.get(tensor.name)
        if entry is None or entry.params is None or tensor.name in frozen:
            continue
        if entry.rounding is not None or entry.correction is not None:
            real = entry.params.dequantize(table.integers(tensor.name, numpy_helper.to_array(tensor)))
            tensor.CopyFrom(numpy_helper.from_array(real.astype(np.float32), tensor.name))
            tensors[tensor.name] = replace(entry, rounding=None, correction=None)
    return changed, replace(table, tensors=tensors, model_sha256=model_sha256(changed))


def require_one_process(where: World) -> None:
    """Refuse to begin where training could not follow."""
    if where.size > 1:
        raise UsageError(f"--qat runs in one process, not in {where.size}: start it without torchrun")


class QatTrainer(Trainer):
    """Fine-tunes a network's folded weights under a table made for its float graph, rewritten or not.

    The teacher is the network itself: `distil` is its share of the loss; the labels have the rest.
    """

    def __init__(
        self,
        original: ReXNet,
        table: QuantTable,
        recipe: Recipe,
        preprocess: Preprocess,
        training: ImageSource,
        evaluation: ImageSource,
        where: World,
        *,
        distil: float,
    ) -> None:
        require_one_process(where)
        self._float = float_graph(original, preprocess)
        self._origins = origins(self._float, table.rewrites)
        trainable = {name for name, origin in self._origins.items() if origin.tensor not in STEM}
        model = apply(self._float, table.rewrites)
        self._frozen = view(model).constants.keys() - trainable
        self.quantized = FakeQuantNetwork(*settled(model, table, self._frozen))
        self._freeze(self.quantized)
        super().__init__(self.quantized, recipe, preprocess, training, evaluation, where)
        self._original = original.to(where.device).eval()
        self._begun_with = table
        self._distil = distil
        self._teacher_input = self.normalize
        self.normalize = lambda pixels: pixels.to(where.device, non_blocking=True)
        self.half, self.scaler = None, torch.amp.GradScaler(where.device.type, enabled=False)
        self.optimizer = torch.optim.Adam([p for p in self.network.parameters() if p.requires_grad], lr=recipe.rate)

    @property
    def name(self) -> str:
        """The network's usual name."""
        return f"{self._original.spec.name} in INT8"

    def _step(self, model: nn.Module, pixels: Tensor, labels: Tensor, rate: float) -> Tensor:
        loss = super()._step(model, pixels, labels, rate)
        self.quantized.follow()
        return loss

    def _loss(self, logits: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        loss = logits.new_zeros(())
        if self._distil < 1:
            loss = loss + (1 - self._distil) * super()._loss(logits, pixels, labels)
        if self._distil > 0:
            with torch.no_grad():
                wanted = self._original(self._teacher_input(pixels))
            loss = loss + self._distil * _divergence(logits, wanted)
        return loss

    def top1(self, network: nn.Module, progress: Progress) -> float:
        """As the artifacts will store the weights."""
        if isinstance(network, FakeQuantNetwork):
            network.follow()
        return super().top1(network, progress)

    def load_state(self, folder: Path) -> None:
        """Go on from a killed run's weights, under the table they were trained with."""
        super().load_state(folder)
        self.quantized.follow()

    def finished(self) -> Finished:
        """The averaged weights in the network they came from, with the table of its own graph; in float32."""
        trained = self.averaged.module
        assert isinstance(trained, FakeQuantNetwork)
        wanted = view(trained.model()).constants
        network = refolded(self._original.cpu(), restored(self._float, self._origins, wanted)).eval()
        model = apply(float_graph(network, self.preprocess), trained.table.rewrites)
        found = view(model).constants
        if lost := [name for name in wanted if not np.allclose(found[name], wanted[name], rtol=ROUNDED, atol=0)]:
            raise ConversionError(f"trained {lost[0]} does not come back from the checkpoint; report this network")
        stored = FakeQuantNetwork(model, trained.table).to(self.world.device).eval()
        self._freeze(stored)
        stored.follow()
        table = replace(stored.table, model_sha256=model_sha256(model))
        return Finished(network=network, half=False, metadata={QPARAMS_KEY: table_text(table)}, measured=stored)

    def _freeze(self, network: FakeQuantNetwork) -> None:
        network.freeze(self._frozen & set(network.parameter_names))

    def _network(self) -> Any:  # noqa: ANN401 - plain values
        table = table_text(self._begun_with)
        return {"table": hashlib.sha256(table.encode()).hexdigest(), "distil": self._distil}


def _divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softened distributions, scaled so that its gradient does not shrink with them."""
    soft = functional.log_softmax(logits / TEMPERATURE, 1)
    target = functional.log_softmax(wanted / TEMPERATURE, 1)
    return TEMPERATURE**2 * functional.kl_div(soft, target, reduction="batchmean", log_target=True)
