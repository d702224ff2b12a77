"""The channel search: short trainings of many configurations, each independent of all others and of where it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rexnet_export.apps.study.common.bottleneck_network import BottleneckNetwork
from rexnet_export.apps.study.search.channel_space import Space, configurations, cost, plan_of
from rexnet_export.apps.study.search.journal import TrialResult, search_journal
from rexnet_export.apps.train.distributed import World
from rexnet_export.apps.train.recipe import Recipe, check, check_batch
from rexnet_export.apps.train.trainer import Trainer
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.progress import Progress, Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource, training_images
from rexnet_export.pipeline.data.subset import some
from rexnet_export.pipeline.machine.torch_threads import torch_threads


@dataclass(frozen=True, kw_only=True)
class Images:
    """Where training and evaluation images are, and how many are used; None paths are the bundled sample."""

    training: Path | None
    evaluation: Path | None
    training_images: int | None
    evaluation_images: int | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Search:
    """All that decides a search's result; how and where trials run does not."""

    space: Space
    recipe: Recipe
    images: Images
    trials: int
    repeats: int

    def __post_init__(self) -> None:
        """Refuse counts no search could have."""
        check("configurations", self.trials, "at least 1", allowed=self.trials >= 1)
        check("repeats", self.repeats, "at least 1", allowed=self.repeats >= 1)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration to train."""

    index: int
    channels: tuple[int, ...]
    search: Search


# Runs trials anywhere, in any order, and yields results as they come.
type Executor = Callable[[Sequence[Trial]], Generator[TrialResult]]


def open_images(images: Images) -> tuple[ImageSource, ImageSource]:
    """Training and evaluation images, labelled alike."""
    training, evaluation, _ = training_images(images.training, images.evaluation, None)
    chosen = (
        some(training, images.training_images, images.seed),
        some(evaluation, images.evaluation_images, images.seed),
    )
    for source in chosen:
        if not len(source):
            raise DataError(f"{source.name} has no images: name a folder with one sub-folder of images per class")
    return chosen


@torch_threads(1)
def run_trial(trial: Trial) -> TrialResult:
    """Train one configuration from scratch, once per repetition, on one thread, so that alike machines agree."""
    search = trial.search
    training, evaluation = open_images(search.images)
    preprocess = Preprocess(size=search.space.image_size, crop_ratio=1.0)
    where = World(rank=0, size=1, device=torch.device("cpu"))
    top1 = []
    for repeat in range(search.repeats):
        recipe = replace(search.recipe, seed=search.recipe.seed + repeat)
        torch.manual_seed(recipe.seed)
        network = BottleneckNetwork(plan_of(search.space, trial.channels))
        trainer = Trainer(network, recipe, preprocess, training, evaluation, where)
        # Only the last accuracy counts: evaluating after every epoch would cost more than the training.
        top1.append(trainer.last_top1(Silent(), workers=0))
    counted = cost(search.space, trial.channels)
    return TrialResult(
        index=trial.index,
        channels=trial.channels,
        parameters=counted.parameters,
        macs=counted.macs,
        top1=tuple(top1),
    )


def identity(search: Search) -> dict[str, Any]:
    """What a resumed search must have in common with the killed one; images by name, number and ids."""
    sources = open_images(search.images)
    return {
        **{f"space {key}": value for key, value in asdict(search.space).items()},
        **asdict(search.recipe),
        "configurations": search.trials,
        "repeats": search.repeats,
        **{f"{kind} images": _digest(source) for kind, source in zip(("training", "evaluation"), sources, strict=True)},
    }


def _digest(source: ImageSource) -> str:
    ids = hashlib.sha256("\n".join(source.ids).encode(errors="surrogateescape")).hexdigest()
    return f"{source.name}, {len(source)}, {ids}"


def run_search(
    search: Search, folder: Path, executor: Executor, progress: Progress, *, resume: bool
) -> tuple[TrialResult, ...]:
    """All results in order of their index; finished trials are kept in the folder as they come."""
    chosen = configurations(search.space, search.trials, search.recipe.seed)
    check_batch(search.recipe.batch, images=len(open_images(search.images)[0]), processes=1)
    journal = search_journal(folder, identity(search))
    done: tuple[TrialResult, ...] = ()
    if resume:
        done = journal.resume().results
    else:
        journal.begin()
    finished = {result.index: result for result in done}
    left = [
        Trial(index=index, channels=channels, search=search)
        for index, channels in enumerate(chosen)
        if index not in finished
    ]
    with progress.stage("configurations", len(chosen), "trials") as bar:
        bar.advance(len(finished))
        with closing(executor(left)) as results:
            for result in results:
                journal.add(result)
                finished[result.index] = result
                bar.advance(1, f"top-1 {result.mean:.1%}")
    return tuple(finished[index] for index in range(len(chosen)))
