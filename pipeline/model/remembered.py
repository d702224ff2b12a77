"""The float network, run on the same images once for all who share the work."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.core.outputs import answer
from rexnet_export.pipeline.machine.shared_work import SharedWork, digest_of
from rexnet_export.pipeline.model.torch_session import TorchSession


@dataclass(frozen=True)
class RememberedSession:
    """A session whose outputs for the same pixels are computed once.

    They are known by the network's tensors, the normalisation, the device, torch's threads (which decide the order of
    sums) and the pixels themselves.
    """

    session: TorchSession
    work: SharedWork

    @property
    def executed_by(self) -> str:
        """The session's."""
        return self.session.executed_by

    @property
    def timed(self) -> bool:
        """The session's."""
        return self.session.timed

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The session's."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The session's."""
        found = self.work.once([*self._key, digest_of(images)], lambda: self.session.outputs(images))
        return {name: values.astype(np.float32, copy=False) for name, values in found.items()}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The session's."""
        return self.session.trace(images)

    @cached_property
    def _key(self) -> list[str]:
        network, preprocess = self.session.network, self.session.preprocess
        digest = hashlib.sha256(repr((type(network).__name__, network.spec)).encode())
        for name, tensor in network.state_dict().items():
            digest.update(f"{name}\0{digest_of(tensor.cpu().contiguous().numpy())}\n".encode())
        said = (self.executed_by, self.session.half, torch.get_num_threads(), preprocess.mean, preprocess.std)
        return ["float network", digest.hexdigest(), repr(said)]


def remembered(session: TorchSession, work: SharedWork | None) -> TorchSession | RememberedSession:
    """The session, or one that shares its work where there is a place for that."""
    return session if work is None else RememberedSession(session, work)
