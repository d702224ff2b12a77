"""INT8 of networks that are not the published shape: every target's file, executed, beside the float network.

    python -m shapes_int8 [--images 200] [--only NAME ...]

Each checkpoint is the bundled network changed (one channel, another input, other heads fitted to its features on the
bundled calibration images), saved as people save it, and exported to all targets. Writes the last part of
`docs/checkpoints.md`.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import rexnet_export
from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load
from rexnet_export.pipeline.core.records import IMAGENET_MEAN, IMAGENET_STD, NotMeasured, Preprocess
from rexnet_export.pipeline.data.sources import batches, bundled, choose
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.proof.results import FileResult
from rexnet_export.pipeline.report.report import Report

PAGE, HEADING = Path("docs/checkpoints.md"), "## In INT8"
FACTS = Path("build/shapes_int8")  # a file a shape: together they are the page
CALIBRATION = 128
GREY_MEAN, GREY_STD = 0.449, 0.226
SIZE = Preprocess(size=64, crop_ratio=1.0)
TOPS = frozenset({"T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"})
USUAL: dict[str, Any] = {"image_size": 64, "crop_ratio": 1.0, "interpolation": "bicubic", "crop_mode": "center"}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A checkpoint to make, and how it is exported; `labels` are its classes."""

    name: str
    state: Callable[[], Mapping[str, Tensor]]
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = bundled("evaluation").class_names or ()


@cache
def original() -> LoadedCheckpoint:
    return load(str(bundled_checkpoint()))


def state() -> dict[str, Tensor]:
    return dict(original().network.state_dict())


def trunk() -> dict[str, Tensor]:
    return {f"backbone.{name}": each for name, each in state().items() if not name.startswith("head.")}


@cache
def features() -> tuple[Tensor, Tensor, Tensor]:
    """Pooled features [n, 1280], class numbers and mean brightness of the bundled calibration images."""
    source, network = bundled("calibration"), original().network.eval()
    kept: list[Tensor] = []
    handle = network.head.fc.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    pixels = [torch.from_numpy(each) for each in batches(source, SIZE, range(len(source)), 64)]
    with torch.inference_mode():
        for part in pixels:
            network(Normalize(SIZE, torch.device("cpu"))(part))
    handle.remove()
    light = torch.cat([part.float().mean((1, 2, 3)) / 255 for part in pixels])
    return torch.cat(kept).clone(), torch.tensor(source.labels), light


def fitted(head: nn.Module, loss: Callable[[Tensor], Tensor], steps: int = 60) -> nn.Module:
    """A head trained on the features; it starts from a seed."""
    inputs, weights = features()[0], [each for each in head.parameters() if each.requires_grad]
    descent = torch.optim.LBFGS(weights, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        descent.zero_grad()
        value = loss(head(inputs)) + 1e-4 * sum(each.square().sum() for each in weights)
        value.backward()
        return value

    descent.step(closure)  # type: ignore[arg-type] # torch's own closure returns a tensor
    return head.eval()


def named(**heads: nn.Module) -> dict[str, Tensor]:
    return {f"{path}.{name}": each.detach() for path, head in heads.items() for name, each in head.state_dict().items()}


def one_channel() -> dict[str, Tensor]:
    """The stem on one channel that stands for three equal ones; only the padded border differs a little."""
    changed, stem = state(), state()["stem.conv.weight"]
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    changed["stem.conv.weight"] = (stem * GREY_STD / std).sum(1, keepdim=True)
    offset = (stem * (GREY_MEAN - mean) / std).sum((1, 2, 3))
    changed["stem.bn.running_mean"] = changed["stem.bn.running_mean"] - offset
    return changed


def four_channels() -> dict[str, Tensor]:
    """The same function where the fourth channel is as the third: they share its weights."""
    stem = state()["stem.conv.weight"]
    return state() | {"stem.conv.weight": torch.cat([stem[:, :2], stem[:, 2:] / 2, stem[:, 2:] / 2], dim=1)}


def two_classes() -> dict[str, Tensor]:
    """A classifier whose bias is zero, as timm's starts."""
    torch.manual_seed(0)
    head = nn.Linear(1280, 2)
    nn.init.zeros_(head.bias)
    head.bias.requires_grad_(requires_grad=False)
    names = bundled("calibration").class_names or ()
    tops = torch.tensor([int(names[label] in TOPS) for label in features()[1].tolist()])
    fitted(head, lambda logits: functional.cross_entropy(logits, tops))
    return state() | named(**{"head.fc": head})


def two_heads() -> dict[str, Tensor]:
    torch.manual_seed(0)
    _, labels, light = features()
    kind = nn.Sequential(nn.Linear(1280, 128), nn.Hardswish(), nn.Dropout(0.0), nn.Linear(128, 10))
    fitted(kind, lambda logits: functional.cross_entropy(logits, labels))
    age = fitted(nn.Linear(1280, 1), lambda found: functional.mse_loss(found[:, 0], light))
    return trunk() | named(head_kind=kind, head_light=age)


def kaggle() -> dict[str, Tensor]:
    """The bundled classifier as two layers in a row, which are one layer again when they are read."""
    torch.manual_seed(0)
    weight, bias = state()["head.fc.weight"].double(), state()["head.fc.bias"]
    first = torch.cat([weight, torch.randn(54, 1280, dtype=torch.float64) * weight.std()])
    mixing = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64)).Q
    head = nn.Sequential(nn.Linear(1280, 64, bias=False), nn.Linear(64, 10))
    layers = {"0.weight": mixing @ first, "1.weight": mixing.T[:10], "1.bias": bias}
    head.load_state_dict({name: each.float() for name, each in layers.items()})
    return trunk() | named(head=head)


def hidden(module: type[nn.Module]) -> Callable[[], dict[str, Tensor]]:
    def made() -> dict[str, Tensor]:
        torch.manual_seed(0)
        labels = features()[1]
        head = nn.Sequential(nn.Linear(1280, 128), nn.BatchNorm1d(128), module(), nn.Linear(128, 10))
        fitted(head, lambda logits: functional.cross_entropy(logits, labels))
        return state() | named(**{"head.fc": head})

    return made


def brightness() -> dict[str, Tensor]:
    torch.manual_seed(0)
    light = features()[2]
    return trunk() | named(fc=fitted(nn.Linear(1280, 1), lambda found: functional.mse_loss(found[:, 0], light)))


def shapes(work: Path) -> Iterator[Shape]:
    grey = {"mean": [GREY_MEAN] * 3, "std": [GREY_STD] * 3}
    yield Shape(name="one channel", state=one_channel, options=grey)
    arrays = {"mean": [0.485, 0.456, 0.406, 0.406], "std": [0.229, 0.224, 0.225, 0.225]}
    four = {"eval_data": four_alike(work / "four", "evaluation")}
    four["calibration_data"] = four_alike(work / "four-unlabelled", "calibration")
    yield Shape(name="four channels", state=four_channels, options=arrays | four, labels=tuple("0123456789"))
    halves = {"eval_data": tops_and_others(work / "halves.tar")}
    yield Shape(name="2 classes, zero bias", state=two_classes, options=halves, labels=("other", "top"))
    wide = {"image_size": [160, 80], "crop_mode": "squash"}
    yield Shape(name="rectangle, 160 x 80", state=state, options=wide)
    told = {"head_activation": "hardswish", "head": "head_kind"}
    yield Shape(name="two heads, one with hardswish", state=two_heads, options=told)
    yield Shape(name="Linear on Linear, folded", state=kaggle)
    for activation, module in (("relu", nn.ReLU), ("silu", nn.SiLU), ("tanh", nn.Tanh)):
        options = {"head_activation": activation}
        yield Shape(name=f"hidden layer, {activation}", state=without_fc(hidden(module)), options=options)
    photos = {"calibration_data": pictures(work / "photos.tar"), "eval_data": pictures(work / "photos.tar")}
    yield Shape(name="regression, one number", state=brightness, options=photos, labels=())


def without_fc(made: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
    """A head of several layers in place of timm's one."""
    return lambda: {name: each for name, each in made().items() if name not in {"head.fc.weight", "head.fc.bias"}}


def tops_and_others(path: Path) -> Path:
    """All evaluation images as a WebDataset shard of two classes."""
    source = bundled("evaluation")
    names = source.class_names or ()
    classes = ["top" if names[label] in TOPS else "other" for label in source.labels or ()]
    return shard(path, "evaluation", classes)


def four_alike(folder: Path, split: Any) -> Path:  # noqa: ANN401 - a literal of the package's
    """Images as arrays of four channels, all of them grey."""
    source = bundled(split)
    labels = source.labels or ()
    for index in sorted(choose(source, 2000, 0)):
        place = folder / str(labels[index]) if split == "evaluation" else folder
        place.mkdir(parents=True, exist_ok=True)
        grey = np.asarray(source.load(index).convert("L"))  # type: ignore[union-attr]
        np.save(place / f"{index:05}.npy", np.repeat(grey[:, :, None], 4, axis=2))
    return folder


def pictures(path: Path) -> Path:
    return path if path.exists() else shard(path, "calibration", None)


def shard(path: Path, split: Any, classes: list[str] | None) -> Path:  # noqa: ANN401 - a literal of the package's
    source = bundled(split)
    chosen = sorted(choose(source, 2000, 0))
    with tarfile.open(path, "w") as archive:
        for index in chosen:
            content = io.BytesIO()
            source.load(index).save(content, "PNG")
            parts = {"png": content.getvalue()} | ({"cls": classes[index].encode()} if classes else {})
            for suffix, part in parts.items():
                entry = tarfile.TarInfo(f"{index:05}.{suffix}")
                entry.size = len(part)
                archive.addfile(entry, io.BytesIO(part))
    return path


def exported(shape: Shape, work: Path, images: int) -> Report:
    path, labels = work / "checkpoint.pth", work / "labels.txt"
    torch.save(shape.state(), path)
    options = (
        USUAL
        | {"eval_images": images, "effort": "fast", "calibration_images": CALIBRATION, "output": work / "out"}
        | dict(shape.options)
    )
    if shape.labels:
        labels.write_text("\n".join(shape.labels), encoding="utf-8")
        options |= {"labels": labels}
        if "eval_data" in shape.options and "calibration_data" not in shape.options:
            options |= {"calibration_data": pictures(work.parent / "photos.tar")}
    return rexnet_export.export(path, precision="int8", **options)


def rows(shape: Shape, report: Report) -> Iterator[str]:
    for name, target in report.targets.items():
        read = target.qparams_read
        held = "" if isinstance(read, NotMeasured) else f"{read.tensors} of {read.tensors}"
        yield row(shape.name, name, target.artifact, held)
        yield from (row(shape.name, f"{name} {preset}", file, held) for preset, file in target.presets.items())


def row(shape: str, target: str, file: FileResult, held: str) -> str:
    accuracy, agreement = file.accuracy, file.agreement_with_reference
    float_top1 = int8_top1 = agreed = "-"
    if not isinstance(accuracy, NotMeasured):
        float_top1, int8_top1 = f"{accuracy.reference_top1:.2%}", f"{accuracy.top1:.2%}"
    if not isinstance(agreement, NotMeasured):
        agreed = f"{agreement:.2%}"
    assert not isinstance(file.outputs, NotMeasured)
    assert not isinstance(file.coverage, NotMeasured)
    levels = [each.sqnr_db for each in file.outputs]
    noise = ", ".join("equal" if isinstance(level, NotMeasured) else f"{level:.1f}" for level in levels)
    share = f"{file.coverage.int8_mac_fraction:.0%}"
    return f"| {shape} | {target} | {share} | {held} | {float_top1} | {int8_top1} | {agreed} | {noise} |"


def page(lines: list[str], images: int) -> str:
    told = f"""{HEADING}

Made by `benchmarks/shapes_int8.py` on {processor()}: the bundled network changed into each shape, heads fitted to its
features, exported with `--effort fast` and {CALIBRATION} calibration images to every target, and executed on {images:,}
images. *Read back*: tensors whose scale and zero point were found in the file as the table has them; Core ML stores no
biases as integers. *SQNR* in dB against the float network, of the logits and then of the other head. The gpu target is
the float network itself.

| shape | file | INT8 | read back | float | file | agree | SQNR |
|---|---|---|---|---|---|---|---|
"""
    return told + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[], help="words of the shapes to export; the rest is as before")
    options = parser.parse_args()
    FACTS.mkdir(parents=True, exist_ok=True)
    known: list[Path] = []
    with tempfile.TemporaryDirectory() as name:
        for index, shape in enumerate(shapes(Path(name))):
            known.append(FACTS / f"{options.images}-{index}.md")
            if options.only and not any(word in shape.name for word in options.only):
                continue
            work = Path(name) / str(index)
            work.mkdir()
            known[-1].write_text("\n".join(rows(shape, exported(shape, work, options.images))), encoding="utf-8")
            print(known[-1].read_text(encoding="utf-8"), flush=True)
    if all(path.exists() for path in known):
        lines = [path.read_text(encoding="utf-8") for path in known]
        before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
        PAGE.write_text(f"{before}\n\n{page(lines, options.images)}", encoding="utf-8")


if __name__ == "__main__":
    main()
