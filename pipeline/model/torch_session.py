"""The float network in torch, on a GPU where there is one: what every artifact is measured against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.core.outputs import answer
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.machine.torch_threads import side_by_side
from rexnet_export.pipeline.model.backbone import Backbone, named_outputs
from rexnet_export.pipeline.model.folded import folded
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.model.rexnet import ReXNet

PIXELS_AT_ONCE = 2**17  # 32 images of 64 x 64: activations stay in the cache


@dataclass(frozen=True, kw_only=True)
class TorchSession:
    """A network, or its backbone, on a device, in channels_last; `half` runs it in mixed precision (on GPUs only)."""

    network: ReXNet | Backbone
    preprocess: Preprocess
    device: torch.device
    half: torch.dtype | None
    timed: bool = True

    @property
    def executed_by(self) -> str:
        """torch's version and the device's name."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"torch {version('torch')} on {name}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] -> float32 logits [N, classes]; of a backbone the mean of every channel."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] -> the logits [N, classes], or a backbone's maps [N, C, H, W], by ONNX tensor name."""
        count = max(1, PIXELS_AT_ONCE // math.prod(self.preprocess.shape))
        if self.device.type != "cpu" or len(images) <= count:
            return self._outputs(images)
        return side_by_side(self._outputs, images, count)

    @torch.inference_mode()
    def _outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        pixels = Normalize(self.preprocess, self.device)(torch.from_numpy(images))
        with (
            # cuDNN rounds float32 to TF32 unless told not to, and a reference must not be rounded.
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            torch.autocast(self.device.type, self.half, enabled=self.half is not None),
        ):
            results = named_outputs(self.network, pixels)
        return {name: values.float().cpu().numpy() for name, values in results.items()}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The outputs: the tensors of the float network are those of `float_tracer.float_trace`."""
        return self.outputs(images)


def open_reference(
    network: ReXNet | Backbone, preprocess: Preprocess, *, half: bool = False, cuda: bool | None = None
) -> TorchSession:
    """Move the network to the GPU where there is one (`cuda` overrides looking); on a CPU BatchNorm is folded."""
    on_gpu = torch.cuda.is_available() if cuda is None else cuda
    device = torch.device("cuda" if on_gpu else "cpu")
    ready = network.eval().to(device) if on_gpu else folded(network)
    return TorchSession(
        network=ready.to(memory_format=torch.channels_last),
        preprocess=preprocess,
        device=device,
        half=torch.float16 if half and on_gpu else None,
    )
