"""Every form of rexnet-bench gpu beside timm's network in eager AMP, channels_last, on the same card; a Markdown table.

    python benchmarks/gpu_reference.py [--width 1.0] [--image-size 224] [--batches 1,32,256] [--seconds 2]

Weights are random: only time is of interest. Both are timed by the same code, from uint8 pixels on the card to logits
on the card. Not run for this release: no GPU was at hand.
"""

import argparse
import sys
from importlib.metadata import version

import numpy as np
import timm
import torch
from torch import Tensor

from rexnet_export.pipeline.core.errors import first_line
from rexnet_export.pipeline.core.records import NotMeasured, Preprocess
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.targets.gpu.clocks import clock_reader
from rexnet_export.targets.gpu.forms import FORMS, Form, Machine, Opened, this_machine, why_not
from rexnet_export.targets.gpu.measure import Cell, measure
from rexnet_export.targets.gpu.torch_forms import TorchForm, open_torch

TIMM = Form(name="timm", numbers="fp16", runner="eager", says="timm, eager AMP, channels_last", mixed=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batches", default="1,32,256")
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    machine = this_machine()
    if not machine.is_gpu:
        sys.exit("gpu_reference.py compares on a GPU, and torch sees no CUDA device here")
    batches = [int(word) for word in options.batches.split(",")]
    preprocess = Preprocess(size=options.image_size)
    network = ReXNet(architecture(width=options.width)).eval()
    print("| form | " + " | ".join(f"batch {batch}, images/s | x timm" for batch in batches) + " |")
    print("|--|" + "--|--|" * len(batches))
    timms = timed(timm_form(options.width, preprocess, machine), preprocess, batches, options.seconds)
    row(TIMM.name, timms, timms)
    for form in FORMS.values():
        if form.runner in {"onnxruntime", "tensorrt"} or why_not(form, machine) is not None:
            continue
        with open_torch(form, network, preprocess, machine) as opened:
            row(form.name, timed(opened, preprocess, batches, options.seconds), timms)
    clocks = clock_reader(machine.device)()
    print(
        f"\n{machine.name}, {clocks.reason if isinstance(clocks, NotMeasured) else clocks}, torch {torch.__version__}, "
    )
    print(f"timm {version('timm')}, {options.seconds:g} s a cell, {options.image_size} px, width {options.width}")
    return 0


def timm_form(width: float, preprocess: Preprocess, machine: Machine) -> TorchForm:
    """timm's network of the same width, as its own benchmark runs it."""
    network = timm.create_model(f"rexnet_{round(100 * width):03d}").eval()
    network = network.to(machine.device).to(memory_format=torch.channels_last)
    normalize = Normalize(preprocess, machine.device)

    def step(pixels: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.float16):
            logits: Tensor = network(normalize(pixels))
        return logits.float()

    return TorchForm(form=TIMM, machine=machine, step=step)


def timed(opened: Opened, preprocess: Preprocess, batches: list[int], seconds: float) -> list[Cell | str]:
    """A cell for each batch size, or why there is none."""
    read = clock_reader(this_machine().device)
    found: list[Cell | str] = []
    for batch in batches:
        pixels = np.random.default_rng(0).integers(0, 256, (batch, *preprocess.shape, 3), np.uint8)
        try:
            found.append(measure(opened.bind(pixels), batch, seconds, read))
        except RuntimeError as error:
            found.append(first_line(error))
    return found


def row(name: str, cells: list[Cell | str], beside: list[Cell | str]) -> None:
    """A form's images a second, and how many times timm's that is."""
    shown = []
    for cell, other in zip(cells, beside, strict=True):
        if isinstance(cell, str):
            shown += [cell, "-"]
            continue
        ratio = "-" if isinstance(other, str) else f"{cell.images_per_s / other.images_per_s:.2f}"
        shown += [f"{cell.images_per_s:,.0f}", ratio]
    print(f"| {name} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
