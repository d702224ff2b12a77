"""Which checkpoints load: files of every shape that people have, built from timm with seeded weights, and what happens.

    python -m checkpoints [--output docs/checkpoints.md]

Every file is made of one seeded timm network (`rexnet_100` at a tenth of its width, 5 classes, no plain statistics).
One that loads is compared with timm's own module on random images: the largest difference of a logit.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import gzip
import json
import os
import pathlib
import pickle
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.models.rexnet import RexNet
from torch import Tensor, nn
from torch.nn import functional

from rexnet_export.pipeline.checkpoint.load import USUAL, load
from rexnet_export.pipeline.core.errors import ExportError
from rexnet_export.pipeline.core.records import Activation, Reading

CLASSES, PIXELS = 5, 64
HEADING = "## In INT8"  # what `shapes_int8.py` writes behind the table
TOLERANCE = 1e-5

type Network = Callable[[Tensor], Tensor | dict[str, Tensor]]


def lively(seed: int = 0, **options: Any) -> RexNet:  # noqa: ANN401 - timm's own
    torch.manual_seed(seed)
    network = RexNet(**{"width_mult": 0.1, "num_classes": CLASSES, **options}).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1)
    return network


def head_of(network: nn.Module, head: nn.Module) -> nn.Module:
    """A copy whose classifier is another one."""
    changed = lively(num_classes=0)
    changed.load_state_dict(network.state_dict(), strict=False)
    changed.head.fc = head
    for module in head.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return changed.eval()


class Wrapper(nn.Module):
    """What people put around a backbone."""

    def __init__(self, backbone: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for name, module in others.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A file to make, what timm's module gives, and whether it should load."""

    name: str
    write: Callable[[Path], object]
    network: Network | None = None
    reading: Reading = USUAL
    reference: Callable[[Path], str] = str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened: the difference and notes of a file that loaded, or the refusal."""

    shape: Shape
    difference: float | None
    words: str

    @property
    def as_expected(self) -> bool:
        if self.shape.network is None:
            return self.difference is None
        return self.difference is not None and self.difference <= TOLERANCE


NETWORK, OTHER = lively(), lively(seed=1)
STATE, BAD = NETWORK.state_dict(), OTHER.state_dict()
TRUNK = {name: each for name, each in STATE.items() if not name.startswith("head.")}
FEATURES = NETWORK.head.fc.in_features


def under(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: each for name, each in state.items()}


def torched(content: object, **options: Any) -> Callable[[Path], object]:  # noqa: ANN401 - torch's own
    return lambda path: torch.save(content, path, **options)


def replaced(name: str, head: nn.Module, reading: Reading = USUAL) -> Shape:
    network = head_of(NETWORK, head)
    return Shape(name=name, write=torched(network.state_dict()), network=network, reading=reading)


def wrapped(name: str, network: nn.Module) -> Shape:
    return Shape(name=name, write=torched({"state_dict": network.eval().state_dict()}), network=network)


def plain_files() -> Iterator[Shape]:
    yield Shape(name="timm state_dict, torch.save", write=torched(STATE), network=NETWORK)
    old = torched(STATE, _use_new_zipfile_serialization=False)
    yield Shape(name="timm state_dict, torch before 1.6", write=old, network=NETWORK)
    yield Shape(name="timm state_dict, pickle protocol 5", write=torched(STATE, pickle_protocol=5), network=NETWORK)
    yield Shape(name="timm state_dict, safetensors", write=lambda path: save_file(STATE, path), network=NETWORK)
    arrays = {name: each.numpy() for name, each in STATE.items()}
    yield Shape(
        name="state_dict of NumPy arrays, pickle.dump",
        write=lambda path: path.write_bytes(pickle.dumps(arrays)),
        network=NETWORK,
    )
    double = {name: each.double() if each.is_floating_point() else each for name, each in STATE.items()}
    yield Shape(name="float64", write=torched(double), network=NETWORK)
    transposed = {
        name: each.to(memory_format=torch.channels_last) if each.ndim == 4 else each for name, each in STATE.items()
    }
    yield Shape(name="channels last", write=torched(transposed), network=NETWORK)
    uncounted = {name: each for name, each in STATE.items() if "num_batches" not in name}
    yield Shape(name="without BatchNorm's counters", write=torched(uncounted), network=NETWORK)


def wrappers() -> Iterator[Shape]:
    extras = {
        "epoch": 3,
        "args": argparse.Namespace(lr=np.float64(0.1), data=pathlib.Path("/data"), gp="avg"),
        "best": np.float32(0.9),
        "confusion": np.eye(CLASSES),
        "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "history": collections.defaultdict(list, loss=[1.0]),
        "settings": types.SimpleNamespace(a=1),
        "optimizer": torch.optim.AdamW(NETWORK.parameters()).state_dict(),
    }
    yield Shape(name="timm's model_best.pth.tar", write=torched({"state_dict": STATE, **extras}), network=NETWORK)
    for prefix, what in (
        ("module.", "DataParallel"),
        ("_orig_mod.", "torch.compile"),
        ("module._orig_mod.", "DDP of torch.compile"),
        ("_fsdp_wrapped_module.", "FSDP, full state dict"),
        ("model.", "Lightning"),
        ("net.model.", "Lightning around a wrapper"),
        ("timm_model.", "transformers TimmWrapper"),
        ("a.b.c.d.", "any depth"),
    ):
        yield Shape(name=f"{what} (`{prefix}`)", write=torched({"state_dict": under(prefix)}), network=NETWORK)
    between = {name.replace("features.3.", "features.3._orig_mod."): each for name, each in STATE.items()}
    yield Shape(name="torch.compile of one block", write=torched(between), network=NETWORK)
    strangers = under("model.") | {"criterion.weight": torch.ones(CLASSES), "aux.0.weight": torch.ones(3, 7)}
    yield Shape(name="strangers beside the network", write=torched(strangers), network=NETWORK)
    yield Shape(name="a stranger inside the network", write=torched({**STATE, "features.3.extra": torch.ones(1)}))
    heads = {f"head.fc.{leaf}": each for leaf, each in NETWORK.head.fc.state_dict().items()}
    mmpretrain = {f"backbone.timm_model.{name}": each for name, each in TRUNK.items()} | heads
    yield Shape(
        name="MMPretrain (`backbone.` and `head.fc`)",
        write=torched({"state_dict": mmpretrain, "meta": {}}),
        network=NETWORK,
    )
    yield Shape(name="FSDP, flat shards", write=torched({"_flat_param": torch.ones(9)}))


def several() -> Iterator[Shape]:
    yield Shape(
        name="EMA beside the weights", write=torched({"state_dict": BAD, "state_dict_ema": STATE}), network=NETWORK
    )
    inside = torched({"state_dict": under("model.", BAD) | under("ema_model.module.")})
    yield Shape(name="EMA inside one dictionary", write=inside, network=NETWORK)
    averaged = torched({"model": BAD, "model_ema": {**under("module."), "n_averaged": torch.tensor(3)}})
    yield Shape(name="torch's AveragedModel", write=averaged, network=NETWORK)
    pair = torched({"teacher": BAD, "student": STATE})
    yield Shape(name="teacher and student", write=pair, network=NETWORK)
    yield Shape(
        name="teacher and student, `--weights teacher`", write=pair, network=OTHER, reading=Reading(weights="teacher")
    )
    yield Shape(name="`--weights` that names nothing", write=pair, reading=Reading(weights="swa"))


def heads() -> Iterator[Shape]:
    yield replaced("head: Linear, 3 classes", nn.Linear(FEATURES, 3))
    yield replaced("head: one output (regression)", nn.Linear(FEATURES, 1))
    yield replaced("head: no bias", nn.Linear(FEATURES, 3, bias=False))
    yield replaced("head: Dropout + Linear", nn.Sequential(nn.Dropout(), nn.Linear(FEATURES, 3)))
    yield replaced(
        "head: BatchNorm + Dropout + Linear",
        nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Dropout(), nn.Linear(FEATURES, 3)),
    )
    yield replaced("head: Linear on Linear", nn.Sequential(nn.Linear(FEATURES, 64), nn.Linear(64, 3)))
    yield replaced(
        "head: Linear, BatchNorm, Linear", nn.Sequential(nn.Linear(FEATURES, 64), nn.BatchNorm1d(64), nn.Linear(64, 3))
    )
    bare = head_of(NETWORK, nn.Identity())
    yield wrapped("Kaggle: backbone without head, `fc`", Wrapper(bare, fc=nn.Linear(FEATURES, 3)))
    yield wrapped(
        "Kaggle: backbone without head, Dropout + Linear",
        Wrapper(bare, head=nn.Sequential(nn.Dropout(), nn.Linear(FEATURES, 3))),
    )
    yield wrapped("Kaggle: Linear on the backbone's classes", Wrapper(NETWORK, fc=nn.Linear(CLASSES, 2)))
    yield from activated_heads()
    kind, age = nn.Linear(FEATURES, 3), nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 1))
    relu = Reading(head_activation="relu")
    two = torched(Wrapper(bare, head_age=age, head_kind=kind).state_dict())
    in_order = lambda x: {"logits": kind(bare(x)), "head.head_age": age(bare(x))}  # noqa: E731
    yield Shape(name="two heads, one of them `Linear, ReLU, Linear`", write=two, network=in_order, reading=relu)
    turned = lambda x: {"logits": age(bare(x)), "head.head_kind": kind(bare(x))}  # noqa: E731
    asked = replace(relu, head="head_age")
    yield Shape(name="two heads, `--head head_age`", write=two, network=turned, reading=asked)
    yield Shape(name="`--head` that names nothing", write=two, reading=replace(relu, head="size"))
    beside = nn.Linear(FEATURES, 7)
    yield Shape(
        name="a second head beside timm's own",
        write=torched(STATE | {f"colour.{leaf}": each for leaf, each in beside.state_dict().items()}),
        network=lambda x: {"logits": NETWORK(x), "head.colour": beside(bare(x))},
    )
    both = Wrapper(bare, heads=nn.ModuleList([nn.Linear(FEATURES, 3), nn.Linear(FEATURES, 4)]))
    yield Shape(
        name="a list of heads",
        write=torched(both.state_dict()),
        network=lambda x: {"logits": both.heads[0](bare(x)), "head.head_1": both.heads[1](bare(x))},
    )
    arc = Wrapper(bare, arcface=nn.Linear(FEATURES, 3, bias=False)).state_dict()
    yield Shape(name="cosine head (ArcFace)", write=torched(arc))
    gem = Wrapper(bare, fc=nn.Linear(FEATURES, 3)).state_dict() | {"pool.p": torch.ones(1)}
    yield Shape(name="GeM pooling", write=torched(gem))
    pooled = {"state_dict": STATE, "args": argparse.Namespace(crop_pct=None, interpolation="", gp="max")}
    yield Shape(name="timm `--gp max`", write=torched(pooled))
    relu = {"state_dict": STATE, "args": argparse.Namespace(model_kwargs={"act_layer": "relu"})}
    yield Shape(name="timm `--model-kwargs act_layer=relu`", write=torched(relu))
    yield Shape(name="no head, for an export", write=torched(TRUNK))
    yield Shape(
        name="no head, for `backbone` and `--from`", write=torched(TRUNK), network=bare, reading=Reading(headless=True)
    )


def activated_heads() -> Iterator[Shape]:
    """Heads with something between their linear layers that a state dict does not show."""
    hidden = nn.Linear(FEATURES, 64), nn.Linear(64, 3)
    relu = nn.Sequential(hidden[0], nn.ReLU(), hidden[1])
    unknown = torched(head_of(NETWORK, relu).state_dict())
    yield Shape(name="head: Linear, something, Linear", write=unknown)
    told: tuple[tuple[Activation, type[nn.Module]], ...] = (
        ("relu", nn.ReLU),
        ("relu6", nn.ReLU6),
        ("silu", nn.SiLU),
        ("hardswish", nn.Hardswish),
        ("tanh", nn.Tanh),
        ("none", nn.Identity),
    )
    for name, module in told:
        head = nn.Sequential(nn.Linear(FEATURES, 64), module(), nn.Linear(64, 3))
        reading = Reading(head_activation=name)
        yield replaced(f"head: Linear, {module.__name__}, Linear, `--head-activation {name}`", head, reading)
    reading = Reading(head_activation="relu")
    yield replaced(
        "head: Linear, BatchNorm, ReLU, Dropout, Linear",
        nn.Sequential(nn.Linear(FEATURES, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 3)),
        reading,
    )
    yield replaced(
        "head: fastai's (BatchNorm, Dropout, Linear, ReLU, BatchNorm, Dropout, Linear)",
        nn.Sequential(
            *(nn.BatchNorm1d(FEATURES), nn.Dropout(), nn.Linear(FEATURES, 64, bias=False), nn.ReLU()),
            *(nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 3, bias=False)),
        ),
        reading,
    )
    yield replaced(
        "head: three layers, SiLU between",
        nn.Sequential(
            *(nn.Linear(FEATURES, 64), nn.SiLU(), nn.Dropout(), nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 3))
        ),
        Reading(head_activation="silu"),
    )
    bare = head_of(NETWORK, nn.Identity())
    named = nn.ModuleDict({"fc1": nn.Linear(FEATURES, 64), "bn1": nn.BatchNorm1d(64), "fc2": nn.Linear(64, 3)}).eval()
    parts = {f"backbone.{name}": each for name, each in TRUNK.items()} | dict(named.state_dict())
    wired = lambda x: named["fc2"](functional.relu(named["bn1"](named["fc1"](bare(x)))))  # noqa: E731
    yield Shape(name="heads by name: fc1, bn1, ReLU, fc2", write=torched(parts), network=wired, reading=reading)


def inputs() -> Iterator[Shape]:
    grey = lively(in_chans=1)
    yield Shape(
        name="one channel (`in_chans=1`), grey images",
        write=torched(grey.state_dict()),
        network=lambda x: grey(x[:, :1]),
    )
    four = lively(in_chans=4)
    yield Shape(name="four channels (`in_chans=4`)", write=torched(four.state_dict()), network=four)
    yield Shape(name="65 channels", write=torched(lively(in_chans=65).state_dict()))
    for width, name in ((0.37, "width 0.37"), (1.3, "rexnet_130")):
        network = lively(width_mult=width)
        yield Shape(name=name, write=torched(network.state_dict()), network=network)
    for depth in (0.2, 0.5, 1.4):
        network = lively(depth_mult=depth)
        yield Shape(name=f"`depth_mult={depth}`", write=torched(network.state_dict()), network=network)
    for option, value in (("final_chs", 200), ("initial_chs", 24), ("se_ratio", 0.25), ("ch_div", 4)):
        network = lively(**{option: value})
        yield Shape(name=f"`{option}={value}`", write=torched(network.state_dict()), network=network)
    rounded = lively(width_mult=0.5, ch_div=8)
    yield Shape(name="rexnetr (channels in eights)", write=torched(rounded.state_dict()), network=rounded)
    other = timm.create_model("resnet10t", num_classes=3).state_dict()
    yield Shape(name="another network (ResNet)", write=torched(other))
    broken = {**STATE, "stem.conv.weight": STATE["stem.conv.weight"] / 0}
    yield Shape(name="infinite weights", write=torched(broken))


def programs() -> Iterator[Shape]:
    image = torch.zeros(1, 3, PIXELS, PIXELS)

    def onnx(path: Path, network: nn.Module = NETWORK, **options: Any) -> None:  # noqa: ANN401 - torch's own
        torch.onnx.export(network, (image,), path, **options)

    old: dict[str, Any] = {"dynamo": False, "opset_version": 17}
    unfolded = {**old, "do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
    yield Shape(
        name="ONNX, TorchScript exporter, BatchNorm folded", write=lambda path: onnx(path, **old), network=NETWORK
    )
    yield Shape(
        name="ONNX, TorchScript exporter, BatchNorm kept", write=lambda path: onnx(path, **unfolded), network=NETWORK
    )
    yield Shape(
        name="ONNX, dynamo exporter, weights beside it", write=lambda path: onnx(path, dynamo=True), network=NETWORK
    )
    yield Shape(
        name="ONNX, dynamo exporter, not optimized",
        write=lambda path: onnx(path, dynamo=True, optimize=False),
        network=NETWORK,
    )
    for between in (nn.Hardswish, nn.GELU):
        deep = head_of(NETWORK, nn.Sequential(nn.Linear(FEATURES, 64), between(), nn.Linear(64, 3)))
        yield Shape(
            name=f"ONNX, head of Linear, {between.__name__}, Linear",
            write=lambda path, deep=deep: onnx(path, deep, **old),
            network=deep if between is nn.Hardswish else None,
        )
    yield Shape(
        name="TorchScript, traced", write=lambda path: torch.jit.trace(NETWORK, image).save(path), network=NETWORK
    )
    yield Shape(
        name="TorchScript, frozen", write=lambda path: torch.jit.freeze(torch.jit.trace(NETWORK, image)).save(path)
    )
    exported = lambda path: torch.export.save(torch.export.export(NETWORK, (image,)), path.with_suffix(".pt2"))  # noqa: E731
    yield Shape(name="torch.export (.pt2)", write=exported, reference=lambda path: str(path.with_suffix(".pt2")))
    yield Shape(name="a whole pickled module", write=torched(NETWORK))


def folders() -> Iterator[Shape]:
    def folder(config: dict[str, object]) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            path.mkdir()
            save_file(STATE, path / "model.safetensors")
            (path / "config.json").write_text(json.dumps(config))

        return write

    cfg = {"input_size": [3, PIXELS, PIXELS], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_mode": "center"}
    in_timm = {"architecture": "rexnet_100", "num_classes": CLASSES, "pretrained_cfg": cfg}
    names = {str(index): f"name {index}" for index in range(CLASSES)}
    in_transformers = {**in_timm, "model_type": "timm_wrapper", "id2label": names}
    yield Shape(name="a folder with timm's config.json", write=folder(in_timm), network=NETWORK)
    yield Shape(name="a folder with transformers' config.json", write=folder(in_transformers), network=NETWORK)
    yield Shape(
        name="local-dir:FOLDER", write=folder(in_timm), network=NETWORK, reference=lambda path: f"local-dir:{path}"
    )
    yield Shape(name="a folder without weights", write=lambda path: path.mkdir())


def hostile() -> Iterator[Shape]:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("touch /tmp/evidence",)

    def content(raw: bytes) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(raw)

    yield Shape(name="a pickle that runs a command", write=torched({"state_dict": STATE, "x": Payload()}))
    wide = {**STATE, "head.fc.weight": torch.zeros(1).expand(600_000, FEATURES)}
    yield Shape(name="a classifier of 4 bytes and 600,000 classes", write=torched(wide))
    levels = b"".join(b"h" + bytes([at]) + b"h" + bytes([at]) + b"\x86\x940" for at in range(45))
    yield Shape(name="a key that hashes 2 ** 45 times", write=content(b"\x80\x04})\x940" + levels + b"h\x2dK\x01s."))
    yield Shape(name="a pipe", write=os.mkfifo)
    yield Shape(name="a web page", write=content(b"<!DOCTYPE html><html>"))
    yield Shape(name="a Git LFS pointer", write=content(b"version https://git-lfs.github.com/spec/v1\n"))
    yield Shape(name="gzip", write=content(gzip.compress(b"x" * 100)))
    yield Shape(name="an empty file", write=content(b""))


def measured(shape: Shape, folder: Path, images: Tensor) -> Outcome:
    path = folder / "weights.bin"
    with quiet():
        shape.write(path)
    try:
        loaded = load(shape.reference(path), shape.reading)
    except ExportError as error:
        return Outcome(shape=shape, difference=None, words=str(error).replace(f"{folder}/", ""))
    notes = "; ".join(loaded.notes)
    if shape.network is None:
        return Outcome(shape=shape, difference=float("nan"), words=notes)
    with torch.inference_mode():
        network = loaded.network
        if shape.reading.headless:
            network.head.fc = nn.Identity()  # type: ignore[assignment]
        images = images.repeat(1, 2, 1, 1)[:, : network.spec.channels]
        expected, found = shape.network(images), network.outputs(images)
        if isinstance(expected, Tensor):
            expected = {"logits": expected}
        assert found.keys() == expected.keys(), (list(found), list(expected))
        difference = max(float((found[name] - expected[name]).abs().max()) for name in found)
    return Outcome(shape=shape, difference=difference, words=notes)


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def page(outcomes: list[Outcome]) -> str:
    loading = [each for each in outcomes if each.difference is not None]
    largest = max(each.difference or 0.0 for each in loading)
    versions = f"timm {timm.__version__} and torch {torch.__version__.partition('+')[0]}"
    rows = [
        f"| {each.shape.name} | {'refuses' if each.difference is None else 'loads'} | "
        f"{'' if each.difference is None else f'{each.difference:.1e}'} | {each.words.replace('|', '/')} |"
        for each in outcomes
    ]
    return "\n".join(
        [
            "# Checkpoints that load, and those that do not",
            "",
            f"Made by `benchmarks/checkpoints.py` with {versions}: each file is built from a seeded timm network.",
            f"Of {len(outcomes)} shapes {len(loading)} load, with logits within {largest:.1e} of timm's own module in",
            f"float32 ({TOLERANCE:g} is allowed); {len(outcomes) - len(loading)} are refused in one line.",
            "",
            "| file | | largest difference | what is said |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/checkpoints.md"))
    options = parser.parse_args()
    torch.manual_seed(7)
    grey = torch.randn(2, 1, PIXELS, PIXELS).expand(-1, 3, -1, -1)
    images = torch.randn(2, 3, PIXELS, PIXELS)
    outcomes = []
    for shapes in (plain_files, wrappers, several, heads, inputs, programs, folders, hostile):
        for shape in shapes():
            with tempfile.TemporaryDirectory() as folder:
                outcome = measured(shape, Path(folder), grey if "grey" in shape.name else images)
            outcomes.append(outcome)
            print(f"{shape.name}: {outcome.difference} {outcome.words}", flush=True)
    wrong = [each.shape.name for each in outcomes if not each.as_expected]
    behind = options.output.read_text(encoding="utf-8").partition(HEADING) if options.output.exists() else ("", "", "")
    options.output.write_text(page(outcomes) + "".join(["\n", *behind[1:]] if behind[1] else []), encoding="utf-8")
    print(f"{len(outcomes)} shapes, {len(wrong)} not as expected {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
