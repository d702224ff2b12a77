"""What decoding an untrusted image may cost, and what a process for each would.

    python benchmarks/decoders.py

Peak memory and time of the largest image that is not refused by its size, in each format and mode, each in a process of
its own; and milliseconds for one of the usual size here, and in a forked child that hands its pixels back.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from io import BytesIO
from statistics import median

import numpy as np
from PIL import Image

from rexnet_export.pipeline.data.decode import decode

SIDE = 9459  # SIDE * SIDE is what Pillow allows, almost
KINDS = (
    ("PNG", "RGB"),
    ("PNG", "RGBA"),
    ("PNG", "P"),
    ("JPEG", "CMYK"),
    ("TIFF", "RGBA"),
    ("GIF", "P"),
    ("BMP", "RGB"),
)
REPEATS = 40


def largest(kind: str, mode: str) -> None:
    """In a process of its own: seconds and bytes beyond what it had."""
    content = BytesIO()
    made = subprocess.run([sys.executable, __file__, "--make", kind, mode], check=True, capture_output=True).stdout
    content.write(made)
    content.seek(0)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    decode(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"| {kind} {mode} | {len(made):,} | {time.process_time() - began:.1f} | {peak / 2**10:,.0f} |")


def make(kind: str, mode: str) -> None:
    content = BytesIO()
    Image.new(mode, (SIDE, SIDE)).save(content, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    sys.stdout.buffer.write(content.getvalue())


def usual() -> None:
    """A photo of 500 x 375, decoded here and in a child."""
    noise = np.random.default_rng(0).integers(0, 255, (47, 63, 3), np.uint8)
    stored = BytesIO()
    Image.fromarray(noise).resize((500, 375)).save(stored, "JPEG")
    here, there = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        decode(BytesIO(stored.getvalue()))
        here.append(time.perf_counter() - began)
        began = time.perf_counter()
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.close(read)
            with os.fdopen(write, "wb") as sink:
                sink.write(decode(BytesIO(stored.getvalue())).tobytes())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as source:
            source.read()
        os.waitpid(child, 0)
        there.append(time.perf_counter() - began)
    times = f"{1000 * median(here):.1f} ms here, {1000 * median(there):.1f} ms in a child"
    print(f"\na photo of 500 x 375: {times}, n {REPEATS}")


def main() -> int:
    match sys.argv[1:]:
        case ["--make", kind, mode]:
            make(kind, mode)
        case ["--largest", kind, mode]:
            largest(kind, mode)
        case _:
            print(f"| {SIDE} x {SIDE} pixels | file, bytes | CPU, s | memory, MiB |\n|---|---:|---:|---:|", flush=True)
            for kind, mode in KINDS:
                subprocess.run([sys.executable, __file__, "--largest", kind, mode], check=True)
            usual()
    return 0


if __name__ == "__main__":
    sys.exit(main())
