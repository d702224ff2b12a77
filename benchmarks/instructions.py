"""Instructions of one inference of each file, and of each command's help: a guard of speed that needs no clock.

    python benchmarks/instructions.py FOLDER [--write | --most 3]

FOLDER is an INT8 export of the bundled network by `--effort fast`, which makes the same graph everywhere. Valgrind
counts what a process of one thread executes; an inference is half of what three cost beyond one. The figures are
compared with those in instructions.json beside this file: one that grew by more than `--most` percent makes the exit
code 1. `--write` replaces them.

Valgrind has no AVX-512 and no VNNI, so these are the kernels of x86 with AVX2. They say how much work a file asks for,
not how fast it is anywhere. They depend on runtimes, which uv.lock pins, and hardly on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

KEPT = Path(__file__).with_suffix(".json")
COMMANDS = ("export", "gate", "bench", "train", "study")
FILES = ("-int8.tflite", "-int8-x86.ort", "-int8.ort", "-float.onnx")
# The same for everybody, as Python does more where there is more; every program runs once without being counted, which
# compiles what it imports.
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
INFER = """
import sys
from pathlib import Path
import numpy as np
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.records import Artifact, stored_file
from rexnet_export.targets import TARGETS
from rexnet_export.targets.isolation.isolated_file import target_of
path = Path(sys.argv[1])
target = TARGETS[target_of(path)]
artifact = Artifact(target=target.name, precision="int8", file=stored_file(path))
height, width = card_from(target.inspect(artifact).metadata).preprocess.shape
image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
session = target.open(artifact, threads=1)
for _ in range(int(sys.argv[2])):
    session.run(image)
"""


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", type=Path, help="an INT8 export by --effort fast")
    flags.add_argument("--most", type=float, default=3.0, metavar="PERCENT", help="(default: %(default)s)")
    flags.add_argument("--write", action="store_true")
    options = flags.parse_args()
    counted = dict(figures(options.folder))
    if options.write:
        runtimes = {name: version(name) for name in ("onnxruntime", "ai-edge-litert", "numpy")}
        KEPT.write_text(json.dumps({"runtimes": runtimes, "instructions": counted}, indent=2) + "\n", encoding="utf-8")
        return 0
    return compared(counted, json.loads(KEPT.read_text(encoding="utf-8"))["instructions"], options.most)


def figures(folder: Path) -> Iterator[tuple[str, int]]:
    """What is counted, and how many instructions it takes."""
    for command in COMMANDS:
        line = ("-P", "-m", f"rexnet_export.apps.{command}.command", "--help")
        subprocess.run((sys.executable, *line), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
        yield f"rexnet-{command} --help", counted_by_valgrind(line)
    for ending in FILES:
        (path,) = (path for path in folder.iterdir() if path.name.endswith(ending))
        program = ("-P", "-c", INFER, str(path))
        subprocess.run((sys.executable, *program, "1"), check=True, env=ENVIRONMENT)
        one, three = (counted_by_valgrind((*program, str(runs))) for runs in (1, 3))
        yield path.name, (three - one) // 2


def counted_by_valgrind(arguments: Sequence[str]) -> int:
    """Instructions of a Python process with these arguments."""
    valgrind = shutil.which("valgrind") or sys.exit("valgrind is not installed: apt install valgrind")
    tool = (valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable)
    done = subprocess.run((*tool, *arguments), capture_output=True, text=True, check=False, env=ENVIRONMENT)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(f"valgrind ended with {done.returncode}: {done.stderr[-300:]}")
    return int(found[1].replace(",", ""))


def compared(counted: Mapping[str, int], kept: Mapping[str, int], most: float) -> int:
    """Print each figure beside the one that is kept; 1 where one grew by more than so many percent, or is new."""
    failed = False
    for name, figure in counted.items():
        known = kept.get(name, 0)
        too_many = 100 * figure > (100 + most) * known
        failed |= too_many
        said = f"{100 * (figure / known - 1):+.1f} %" + " TOO MUCH" * too_many if known else "is new: --write keeps it"
        print(f"{name:36}{figure:14,}  {said}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
