"""The processes of one training run: one per device; torchrun sets the environment that `world` reads."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rexnet_export.apps.train.cpu_sync_batchnorm import synchronise


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among all of the run, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0


def world() -> World:
    """Join the process group that torchrun describes, or be the only process; one GPU per process if there is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(rank=rank, size=size, device=device)


def parallel(network: nn.Module, where: World) -> nn.Module:
    """The network as every process trains it: gradients averaged, batch statistics of the whole global batch."""
    if where.size == 1:
        return network
    if where.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(network, device_ids=[where.device.index])
    synchronise(network)
    return DistributedDataParallel(network)
