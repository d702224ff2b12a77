"""The child process of `doctor`: converts a small network to one target and executes it.

`attempt TARGET FOLDER` says each step on a line of its own when it is done, so that what a crash left undone is known.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ExportError, first_line
from rexnet_export.pipeline.core.extras import unavailable
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.targets import TARGETS

SIDE, WIDTH = 32, 0.1  # pixels, and of the smallest network there is
LABELS = ("one", "other")


def main(argv: Sequence[str]) -> int:
    """Say what was done, or the one line that tells why not."""
    name, folder = argv
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # toolchains print
    try:
        for step in steps(name, Path(folder)):
            print(json.dumps(step), file=told, flush=True)
    except ExportError as error:
        print(json.dumps({"failed": str(error)}), file=told, flush=True)
    except ModuleNotFoundError as error:
        print(json.dumps({"failed": str(unavailable(error) or error)}), file=told, flush=True)
    except Exception as error:  # noqa: BLE001 - another package's code may fail in any way; the doctor says it in a line
        print(json.dumps({"failed": f"{type(error).__name__}: {first_line(error)}"}), file=told, flush=True)
    return 0


def steps(name: str, folder: Path) -> Iterator[Mapping[str, Any]]:
    """Seconds until it was converted, then what executed it."""
    began = time.perf_counter()
    target = TARGETS[name]
    target.require()
    artifact = target.convert(_source(folder), folder, "doctor")
    yield {"converted_s": time.perf_counter() - began}
    session = target.open(artifact)
    session.run(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    yield {"executed_by": session.executed_by, "timed": session.timed}


def _source(folder: Path) -> Source:
    """A network as it is made, its checkpoint and its float graph."""
    from rexnet_export.pipeline.checkpoint.load import save_checkpoint  # noqa: PLC0415 - torch, which may be missing
    from rexnet_export.pipeline.graph.float_graph import write_float_onnx  # noqa: PLC0415 - the same
    from rexnet_export.pipeline.model.architecture import architecture  # noqa: PLC0415 - the same
    from rexnet_export.pipeline.model.rexnet import ReXNet  # noqa: PLC0415 - the same

    network = ReXNet(architecture(width=WIDTH, classes=len(LABELS))).eval()
    preprocess = Preprocess(size=SIDE)
    checkpoint = save_checkpoint(
        folder / "checkpoint.safetensors", network, labels=LABELS, preprocess=preprocess, metadata={}, half=False
    )
    card = ModelCard(name="doctor", labels=LABELS, preprocess=preprocess, checkpoint_sha256=checkpoint.sha256)
    return Source(
        card=card,
        precision="fp32",
        checkpoint=checkpoint,
        float_onnx=write_float_onnx(network, card, folder / "float.onnx"),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
