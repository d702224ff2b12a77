"""One process of a training run, as a function that processes started by a test can import."""

from pathlib import Path

import torch
from depths import SHORT
from random_networks import random_network
from synthetic_images import Blobs
from torch import distributed

from rexnet_export.apps.train.distributed import World
from rexnet_export.apps.train.recipe import Augmentation, Recipe
from rexnet_export.apps.train.trainer import Trainer
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess

RECIPE = Recipe(
    epochs=2, batch=16, rate=0.05, warmup_epochs=0.5, augmentation=Augmentation(crop_area=0.6, randaugment=9)
)
IMAGES, HELD_BACK = 36, 7  # the last 4 images of an epoch's order drop; 7 do not divide over 2 processes


def train(rank: int, processes: int, folder: Path) -> None:
    """One process: two epochs, then its weights, losses and accuracy in a file of its own."""
    torch.set_num_threads(1)
    if processes > 1:
        rendezvous = f"file://{folder}/rendezvous"
        distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=processes)
    network = random_network(
        "v1", 0.25, stages=SHORT
    ).double()  # float32 sums in another order, and training magnifies that
    network.head.dropout.p = 0.0  # each process draws masks of its own
    where = World(rank=rank, size=processes, device=torch.device("cpu"))
    trainer = Trainer(network, RECIPE, Preprocess(size=32), Blobs(IMAGES, 10), Blobs(HELD_BACK, 10), where)
    to_float32 = trainer.normalize
    trainer.normalize = lambda pixels: to_float32(pixels).double()
    results = [(r.loss, r.top1) for r in trainer.epochs(Silent(), workers=0)]
    state = {"network": trainer.network.state_dict(), "averaged": trainer.averaged.module.state_dict()}
    torch.save({**state, "results": results}, folder / f"{processes}-{rank}.pt")
    if processes > 1:
        distributed.destroy_process_group()
