"""Five classes of the bundled sample learned by a network that was trained on the other five; a Markdown table.

    python benchmarks/transfer.py [--epochs 12] [--width 0.5] [--pixels 32]

Training images are the bundled calibration images, evaluation images the bundled evaluation images.
"""

import argparse
import io
import json
import tempfile
from pathlib import Path

from PIL import Image

from rexnet_export.apps.train.command import main as train
from rexnet_export.pipeline.data.sources import Split, bundled

CLASSES_A_HALF = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--pixels", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for half in ("first", "second"):
            for split in ("calibration", "evaluation"):
                store(root / half / split, split, second=half == "second")
        usual = ["--batch", "32", "--workers", "0", "--quiet", "--average-decay", "0.95"]
        usual += ["--epochs", str(options.epochs)]
        new = ["--width", str(options.width), "--image-size", str(options.pixels), "--crop-ratio", "1.0"]
        run(root, "first", "first half, from nothing", [*usual, *new])
        (trained,) = (root / "first").glob("out*/*.safetensors")
        print("| epochs | " + " | ".join(map(str, range(1, options.epochs + 1))) + " |")
        print("|--|" + "--|" * options.epochs)
        run(root, "second", "from nothing", [*usual, *new])
        start = ["--from", str(trained), "--classes", str(CLASSES_A_HALF)]
        run(root, "second", "transferred", [*usual, *start])


def store(folder: Path, split: Split, *, second: bool) -> None:
    """The images of half of the classes as PNG files, one sub-folder per class."""
    source = bundled(split)
    assert source.labels is not None
    for index, label in enumerate(source.labels):
        if (label >= CLASSES_A_HALF) == second:
            place = folder / f"class-{label}"
            place.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            image: Image.Image = source.load(index)
            image.save(content, "PNG")
            (place / f"{index}.png").write_bytes(content.getvalue())


def run(root: Path, half: str, title: str, arguments: list[str]) -> None:
    output = root / half / f"out-{title.replace(' ', '-')}"
    data = ["--data", str(root / half / "calibration"), "--eval-data", str(root / half / "evaluation")]
    code = train([*data, *arguments, "--output", str(output)])
    if code:
        raise SystemExit(code)
    if half == "second":
        lines = (output / "log.jsonl").read_text(encoding="utf-8").splitlines()
        print(f"| {title} | " + " | ".join(f"{json.loads(line)['top1']:.1%}" for line in lines) + " |", flush=True)


if __name__ == "__main__":
    main()
