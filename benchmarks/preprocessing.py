"""What preprocessing that nobody states costs, and whether it is noticed; writes docs/preprocessing.md.

    python benchmarks/preprocessing.py [--images 512] [--folder-images 20000] [--parts 4:3 16:9 order folder]

The bundled network has seen 28 x 28 images resized to its input. Stretched to 4:3 and 16:9 they are photos that a
squash gives back as it knows them, which is what a network trained with `Resize((S, S))` has.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rexnet_export.pipeline.accuracy.preprocess_check import check_preprocess
from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.load import load
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, bundled, check_images, choose, open_source
from rexnet_export.pipeline.export.inputs import Inputs, gather
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.model.torch_session import open_reference

SHAPES = {"4:3": (112, 84), "16:9": (128, 72)}
PARTS = (*SHAPES, "order", "folder")
BAD, KINDS = 7, 200
FACTS = Path("build/preprocessing")
PAGE = Path(__file__).parents[1] / "docs" / "preprocessing.md"
TEMPLATE = """# Preprocessing and the order of classes: what a wrong guess costs

Written by `python benchmarks/preprocessing.py` on {machine}.

## A network trained with a squash

{images:,} bundled images stretched to photos of another shape, the bundled network without its metadata
(`--image-size 64` given). Nothing states the crop, so timm's centre crop of 0.875 is assumed, and said to be.

| photos | assumed | told: `--crop-mode squash --crop-ratio 1` | what the export says unasked |
|--|--|--|--|
{squash}

## Folders `1` to `10` of a network in natural order

The same images in folders named by number from 1, a checkpoint that names no classes.

| | top-1 |
|--|--|
| string order (`1, 10, 2`), as loaders sort | {string:.1%} |
| what the export does | {natural:.1%} |

It says: {order}

With {few} images, which cannot tell: {tie}

## A folder of {folder:,} images, {bad} of them unusable

JPEGs of 500 x 375 pixels ({kinds} different ones, linked), looked at in full before anything else:

| images | seconds | images/s | memory taken at most |
|--|--|--|--|
{checks}

The seconds are a busy machine's. It says: {refusal}
"""


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--images", type=int, default=512)
    flags.add_argument("--folder-images", type=int, default=20_000)
    flags.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; the rest is as before"
    )
    flags.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.check:
        print(json.dumps(checked(options.check)))
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        bare = work / "bare.pth"
        torch.save(load(str(bundled_checkpoint())).network.state_dict(), bare)
        base = Options(checkpoint=str(bare), precision="fp32", image_size=64)
        for part in options.parts:
            if part == "folder":
                facts = folder(work / "many", options.folder_images)
            elif part == "order":
                facts = order(work / "numbered", base, options.images)
            else:
                facts = {part: squash(work / part.replace(":", "-"), part, base, options.images)}
            FACTS.mkdir(parents=True, exist_ok=True)
            (FACTS / f"{part.replace(':', '-')}.json").write_text(json.dumps(facts), encoding="utf-8")
            print(part, json.dumps(facts, indent=1), flush=True)
    known = {key: value for path in FACTS.glob("*.json") for key, value in json.loads(path.read_text("utf-8")).items()}
    if all(part in known for part in SHAPES) and {"order", "folder"} <= known.keys():
        rows = "\n".join(known[ratio] for ratio in SHAPES)
        PAGE.write_text(TEMPLATE.format(machine=processor(), images=options.images, squash=rows, **known), "utf-8")


def photos(root: Path, names: dict[int, str], size: tuple[int, int], count: int) -> Path:
    """Bundled evaluation images as photos of a size, in one folder per class."""
    source = bundled("evaluation")
    assert source.labels is not None
    for index in choose(source, count, 0):
        place = root / names[source.labels[index]]
        place.mkdir(parents=True, exist_ok=True)
        source.load(index).resize(size, Image.Resampling.BICUBIC).save(place / f"{index}.png")
    return root


def squash(root: Path, ratio: str, base: Options, count: int) -> str:
    """One row: what is assumed, what is told, and what is noticed."""
    labels = bundled("evaluation").class_names
    assert labels is not None
    names = root.with_suffix(".txt")
    names.write_text("\n".join(labels), encoding="utf-8")
    folders = {index: label.replace("/", " ") for index, label in enumerate(labels)}
    options = replace(base, labels=names, eval_data=photos(root, folders, SHAPES[ratio], count))
    assumed = gather(options)
    told = gather(replace(options, crop_mode="squash", crop_ratio=1.0))
    network = partial(open_reference, assumed.checkpoint.network)
    judged = check_preprocess(network, assumed.evaluation, assumed.card.preprocess, Silent())
    assert not isinstance(judged, NotMeasured)
    return f"| {ratio} | {top1(assumed):.1%} | {top1(told):.1%} | {judged.notice} |"


def order(root: Path, base: Options, count: int) -> dict[str, object]:
    """The class order settled, forced wrong, and with too few images."""
    folders = {index: str(index + 1) for index in range(10)}
    options = replace(
        base, eval_data=photos(root, folders, (28, 28), count), crop_ratio=1.0, crop_mode="center", labels=None
    )
    settled, string = gather(options), gather(replace(options, class_order="string"))
    few = 10
    small = photos(root.with_name("few"), folders, (28, 28), few)
    for path in small.rglob("*.png"):
        Image.new("RGB", (28, 28)).save(path)
    try:
        gather(replace(options, eval_data=small))
        tie = "nothing"
    except UsageError as error:
        tie = f"exit code {error.exit_code}, {error}"
    (line,) = [notice for notice in settled.notices if "folder names" in notice]
    return {"natural": top1(settled), "string": top1(string), "order": line, "few": few, "tie": tie}


def top1(inputs: Inputs) -> float:
    """Of the float network on all evaluation images."""
    images: Images = inputs.evaluation
    session = open_reference(inputs.checkpoint.network, inputs.card.preprocess)
    found = [
        session.run(pixels).argmax(1) for pixels in batches(images.source, inputs.card.preprocess, images.indices, 64)
    ]
    return float((np.concatenate(found) == images.labels).mean())


def folder(root: Path, count: int) -> dict[str, object]:
    """The check of a tenth of the folder and of all of it, each in a process of its own."""
    rows, refusal = [], ""
    for number, images in enumerate((count // 10, count)):
        path = root / str(number)
        many(path, images)
        told = json.loads(subprocess.check_output([sys.executable, "-P", __file__, "--check", str(path)], text=True))
        refusal = told["refusal"]
        rate = images / told["seconds"]
        rows.append(f"| {images:,} | {told['seconds']:.1f} | {rate:,.0f} | {told['megabytes']:,.0f} MB |")
    return {"folder": count, "bad": BAD, "kinds": KINDS, "checks": "\n".join(rows), "refusal": refusal}


def many(path: Path, count: int) -> None:
    """Links to some JPEGs, and seven files that are none or not whole."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    kinds = []
    for number in range(KINDS):
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        kinds.append(path / f"{number:05}.jpg")
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(kinds[-1], quality=92)
    for number in range(KINDS, count - BAD):
        os.link(kinds[number % KINDS], path / f"{number:05}.jpg")
    whole = kinds[0].read_bytes()
    contents = (
        whole[: len(whole) // 2],
        whole[:-20],
        b"",
        b"text",
        b"<html>404",
        b"version https://git-lfs",
        whole[:200],
    )
    for number, content in enumerate(contents):
        (path / f"bad-{number}.jpg").write_bytes(content)


def checked(path: Path) -> dict[str, object]:
    """What the check says of a folder, in what time and memory."""
    source, refusal = open_source(path, labelled=False), "nothing"
    before, start = peak(), time.perf_counter()
    try:
        check_images(source, range(len(source)))
    except DataError as error:
        refusal = f"exit code {error.exit_code}, {error}"
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "megabytes": peak() - before,
        "refusal": refusal.replace(str(path), "DIR"),
    }


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
