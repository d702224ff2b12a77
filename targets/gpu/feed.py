"""Feeding a network from a decoder, so that the slower of the two is the only one that is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

type Logits = NDArray[np.float32]


def fed(
    step: Callable[[Tensor], Tensor], device: torch.device, batches: Iterable[NDArray[np.uint8]]
) -> Iterator[Logits]:
    """Logits of batches uint8 [n, H, W, C] in their order.

    On CUDA a batch is copied from pinned memory on a stream of its own while the one before is computed, and logits
    are asked for one batch late: neither the decoder nor the card waits for a copy.
    """
    return _on_cuda(step, device, batches) if device.type == "cuda" else _on_cpu(step, batches)


@torch.inference_mode()
def _on_cpu(step: Callable[[Tensor], Tensor], batches: Iterable[NDArray[np.uint8]]) -> Iterator[Logits]:
    for images in batches:
        yield step(torch.from_numpy(images)).numpy()


@torch.inference_mode()
def _on_cuda(
    step: Callable[[Tensor], Tensor], device: torch.device, batches: Iterable[NDArray[np.uint8]]
) -> Iterator[Logits]:
    copying, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)  # type: ignore[no-untyped-call]
    before: tuple[Tensor, torch.cuda.Event] | None = None
    for images in batches:
        pinned = torch.from_numpy(images).pin_memory()
        with torch.cuda.stream(copying):
            pixels = pinned.to(device, non_blocking=True)
        computing.wait_stream(copying)
        pixels.record_stream(computing)  # or its memory would be given to the next copy while it is read
        logits = step(pixels).to("cpu", non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(computing)
        if before is not None:
            yield _finished(*before)
        before = logits, done
    if before is not None:
        yield _finished(*before)


def _finished(logits: Tensor, done: torch.cuda.Event) -> Logits:
    done.synchronize()
    found: Logits = logits.numpy()
    return found
