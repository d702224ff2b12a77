"""Training a ReXNet: SGD with warm-up and cosine, label smoothing, an averaged copy of the weights, any device.

State is saved after every epoch, so a killed run loses at most one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from rexnet_export.apps.train.augment import TrainingImages
from rexnet_export.apps.train.distributed import World, parallel
from rexnet_export.apps.train.optimizer import averaging, parameter_groups
from rexnet_export.apps.train.recipe import Recipe, batch_sizes, check_batch, learning_rate
from rexnet_export.pipeline.core.errors import CheckpointError, DataError, UsageError
from rexnet_export.pipeline.core.files import TRAINING_STATE
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource, batches
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.model.rexnet import ReXNet

STATE_FILE = TRAINING_STATE
EVALUATION_BATCH = 128
STATEFUL = ("network", "averaged", "optimizer", "scaler")


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One line of the log: mean training loss, and top-1 of the averaged weights on the evaluation images."""

    epoch: int
    loss: float
    top1: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run made: the network to store, in half precision or not, what to say beside it, and what to measure."""

    network: ReXNet
    half: bool
    metadata: Mapping[str, str]
    measured: nn.Module


class Trainer:
    """Network, averaged network and optimizer of one run over labelled images; `epochs` yields a result after each."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        preprocess: Preprocess,
        training: ImageSource,
        evaluation: ImageSource,
        where: World,
    ) -> None:
        check_batch(recipe.batch, images=len(training), processes=where.size)
        self.recipe = recipe
        self.preprocess = preprocess
        self.training = training
        self.evaluation = evaluation
        self.world = where
        self.network = network.to(where.device).to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(self.network, multi_avg_fn=averaging(recipe.average_decay), use_buffers=True)
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
            parameter_groups(self.network, recipe.weight_decay, recipe.layer_decay),
            lr=recipe.rate,
            momentum=recipe.momentum,
            nesterov=True,
        )
        self.normalize: Callable[[Tensor], Tensor] = Normalize(preprocess, where.device)
        half = torch.bfloat16 if where.device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
        self.half = half if where.device.type == "cuda" else None
        self.scaler = torch.amp.GradScaler(where.device.type, enabled=self.half == torch.float16)
        self.epoch = 0

    @property
    def name(self) -> str:
        """The network's usual name."""
        assert isinstance(self.network, ReXNet)
        return self.network.spec.name

    def epochs(self, progress: Progress, *, workers: int) -> Iterator[EpochResult]:
        """Train the epochs that are left, evaluating the averaged weights after each."""
        model = parallel(self.network, self.world)
        while self.epoch < self.recipe.epochs:
            loss, speed = self._train_epoch(model, progress, workers)
            top1 = self.top1(self.averaged.module, progress)
            self.epoch += 1
            yield EpochResult(epoch=self.epoch, loss=loss, top1=top1, images_per_second=speed)

    def last_top1(self, progress: Progress, *, workers: int) -> float:
        """Train the epochs that are left and evaluate once, after the last."""
        model = parallel(self.network, self.world)
        while self.epoch < self.recipe.epochs:
            self._train_epoch(model, progress, workers)
            self.epoch += 1
        return self.top1(self.averaged.module, progress)

    def _train_epoch(self, model: nn.Module, progress: Progress, workers: int) -> tuple[float, float]:
        recipe, device = self.recipe, self.world.device
        sizes = batch_sizes(len(self.training), recipe.batch, self.world.size)
        steps, images = len(sizes), sum(sizes)
        torch.manual_seed(hash((recipe.seed, self.epoch, self.world.rank)))  # dropout; the same after a resume
        model.train()
        if self._head_alone:
            for part in self._below_the_head():
                part.eval()  # BatchNorm keeps the statistics it came with
        loss_sum = torch.zeros((), device=device)
        title = f"epoch {self.epoch + 1}/{recipe.epochs}"
        start = perf_counter()
        with progress.stage(title, images, "images") as bar:
            for step, (pixels, labels) in enumerate(self._loaded(workers)):
                rate = learning_rate(recipe, self.epoch * steps + step, steps)
                loss = self._step(model, pixels, labels.to(device), rate)
                loss_sum += loss * sizes[step]
                bar.advance(sizes[step], f"loss {loss.item():.3f}" if step % 10 == 0 else "")
        if self.world.size > 1:  # each process's loss is the mean of its share
            distributed.all_reduce(loss_sum)
        return loss_sum.item() / self.world.size / images, images / (perf_counter() - start)

    @property
    def _head_alone(self) -> bool:
        return self.epoch < self.recipe.frozen_epochs

    def _below_the_head(self) -> Iterator[nn.Module]:
        return (part for name, part in self.network.named_children() if name != "head")

    def _loaded(self, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's batches of the epoch: uint8 [n, S, S, 3] pixels and int64 [n] labels."""
        recipe = self.recipe
        loader = DataLoader(
            TrainingImages(self.training, self.preprocess, recipe.augmentation, seed=recipe.seed, epoch=self.epoch),
            batch_sampler=list(_epoch_batches(len(self.training), recipe, self.epoch, self.world)),
            num_workers=workers,
            pin_memory=self.world.device.type == "cuda",
        )
        try:
            yield from loader
        except DataError as error:
            # A loader process's error arrives with its traceback as text, whose last line is what was raised.
            reason = str(error).strip().splitlines()[-1].rpartition(f"{DataError.__name__}: ")[2]
            raise DataError(f"{self.training.name}: {reason}; replace or remove the image") from error

    def _step(self, model: nn.Module, pixels: Tensor, labels: Tensor, rate: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        with torch.autocast(self.world.device.type, self.half, enabled=self.half is not None):
            loss = self._loss(model(self.normalize(pixels)), pixels, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._head_alone:
            for part in self._below_the_head():
                part.zero_grad(set_to_none=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.averaged.update_parameters(self.network)
        return loss.detach()

    def _loss(self, logits: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 - for those who distil
        return functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)

    @torch.inference_mode()
    def top1(self, network: nn.Module, progress: Progress) -> float:
        """Fraction of all evaluation images classified right, each process taking every `size`-th."""
        evaluation = self.evaluation
        assert evaluation.labels is not None, "evaluation sources are opened with labels"
        indices = list(range(self.world.rank, len(evaluation), self.world.size))
        labels = torch.tensor([evaluation.labels[i] for i in indices])
        network.eval()
        right = torch.zeros((), device=self.world.device)
        done = 0
        with progress.stage("evaluating", len(indices), "images") as bar:
            for pixels in batches(evaluation, self.preprocess, indices, EVALUATION_BATCH):
                truth = labels[done : done + len(pixels)].to(self.world.device)
                right += (network(self.normalize(torch.from_numpy(pixels))).argmax(1) == truth).sum()
                done += len(pixels)
                bar.advance(len(pixels))
        if self.world.size > 1:
            distributed.all_reduce(right)
        return right.item() / len(evaluation)

    def finished(self) -> Finished:
        """The averaged weights, rounded to half precision as they are stored."""
        network = self.averaged.module.half().float().eval()
        assert isinstance(network, ReXNet)
        return Finished(network=network, half=True, metadata={}, measured=network)

    def save_state(self, folder: Path) -> None:
        """Write all that a resumed run needs, and what it must have in common with this one, whole or not at all."""
        state = {"run": self._run(), "epoch": self.epoch}
        state |= {name: getattr(self, name).state_dict() for name in STATEFUL}
        content = io.BytesIO()  # torch's own file writer does not say that the disk is full
        torch.save(state, content)
        temporary = folder / f"{STATE_FILE}.tmp"
        try:
            temporary.write_bytes(content.getvalue())
            temporary.replace(folder / STATE_FILE)
        finally:
            temporary.unlink(missing_ok=True)

    def load_state(self, folder: Path) -> None:
        """Go on from a killed run's state; what `_run` lists must be the same."""
        path = folder / STATE_FILE
        if not path.is_file():
            raise CheckpointError(f"nothing to resume in {folder}: no {STATE_FILE} there; start without --resume")
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.world.device, weights_only=True)
            before = state["run"]
            changed = [key for key, value in self._run().items() if before.get(key) != value]
            if not changed:
                self._restore(state)
        except Exception as error:  # torch's readers fail in a dozen ways on damaged bytes
            raise CheckpointError(
                f"{path} is damaged or of another release ({type(error).__name__}): start again with another --output"
            ) from error
        if changed:
            raise UsageError(
                f"{path} is of a run with other {', '.join(changed)}: resume with its options, or give another --output"
            )

    def _run(self) -> dict[str, Any]:
        """What makes a run this run; the training images stand there by name, number and ids."""
        ids = hashlib.sha256("\n".join(self.training.ids).encode(errors="surrogateescape")).hexdigest()
        return {
            **asdict(self.recipe),
            "network": self._network(),
            "preprocess": asdict(self.preprocess),
            "labels": self.training.class_names,
            "training images": (self.training.name, len(self.training), ids),
        }

    def _network(self) -> Any:  # noqa: ANN401 - plain values
        assert isinstance(self.network, ReXNet)
        return asdict(self.network.spec)

    def _restore(self, state: dict[str, Any]) -> None:
        for name in STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        self.epoch = int(state["epoch"])


def _epoch_batches(images: int, recipe: Recipe, epoch: int, where: World) -> Iterator[list[int]]:
    """This process's share of every global batch; the order depends on seed and epoch."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)).tolist()
    sizes = batch_sizes(images, recipe.batch, where.size)
    order += order[: sum(sizes) - images]
    start = 0
    for size in sizes:
        share = size // where.size
        first = start + where.rank * share
        yield order[first : first + share]
        start += size
