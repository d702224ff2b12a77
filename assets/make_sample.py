"""Makes the sample images from Fashion-MNIST: `python -m rexnet_export.assets.make_sample SOURCE OUTPUT`.

SOURCE holds the four files of Debian's package `dataset-fashion-mnist`, OUTPUT is the folder of this file.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.data.idx import open_idx
from rexnet_export.pipeline.data.sources import choose

CALIBRATION_IMAGES = 1024
SEED = 0
LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# The evaluation files are Debian's own, byte for byte, so that their digests can be compared with the package's.
EVALUATION = {
    "t10k-images-idx3-ubyte.gz": "evaluation-images.idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz": "evaluation-labels.idx1-ubyte.gz",
}


def make_sample(source: Path, output: Path) -> None:
    """Write the evaluation set, the calibration set drawn from the training set, the labels and all digests."""
    for original, name in EVALUATION.items():
        shutil.copyfile(source / original, output / name)
    training = open_idx(source / "train-images-idx3-ubyte.gz", labelled=True)
    indices = sorted(choose(training, CALIBRATION_IMAGES, SEED))
    _write_idx(output / "calibration-images.idx3-ubyte.gz", training.pixels[indices])
    _write_idx(output / "calibration-labels.idx1-ubyte.gz", np.asarray(training.labels, np.uint8)[indices])
    (output / "calibration-indices.txt").write_text("".join(f"{index}\n" for index in indices), encoding="utf-8")
    (output / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    names = sorted(path.name for pattern in ("*.gz", "*.txt", "*.safetensors") for path in output.glob(pattern))
    sums = "".join(f"{file_sha256(output / name)}  {name}\n" for name in names)
    (output / "SHA256SUMS").write_text(sums, encoding="utf-8")


def _write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Gzipped IDX without name and time, so that the same values give the same file."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 9, mtime=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    make_sample(arguments.source, arguments.output)
