"""The child process of `targets.isolation.isolated_file`: opens one file and answers questions about it.

Native readers trust what a file says of itself, so a damaged file can end the process that opens it. Here that is a
process nobody else depends on. It is started for the file, and then questions come on standard input and answers go to
the standard output it was started with; or it is forked (`fork_server`). Whatever a toolchain prints goes nowhere.

A message is one line of JSON, followed by arrays in numpy's `.npy` format; its `arrays` gives their names and
lengths in bytes.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median_low
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.structure import Structure
from rexnet_export.pipeline.artifact.target import OutputSession, Target
from rexnet_export.pipeline.core.array_files import parse_array
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, InvalidMeasurement, first_line
from rexnet_export.pipeline.core.extras import unavailable
from rexnet_export.pipeline.core.records import PRECISIONS, Artifact, Coverage, stored_file
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.timing.blocks import kernel_times, watched
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets import TARGETS
from rexnet_export.targets.isolation.preloading import preload

type Arrays = Mapping[str, NDArray[np.generic]]

IMAGES, RUNS, NANOSECONDS = "images", "runs", "nanoseconds"
LARGEST_HEADER, LARGEST_ARRAYS = 2**24, 2**33  # bytes

# The parts of an `Inspection` that travel as JSON; parameters travel as arrays.
PARTS: Mapping[str, TypeAdapter[Any]] = {
    "metadata": TypeAdapter(dict[str, str]),
    "coverage": TypeAdapter(Coverage),
    "structure": TypeAdapter(Structure),
    "qparams": TypeAdapter(dict[str, QuantParams]),
    "inside": TypeAdapter(dict[str, str]),
    "altered": TypeAdapter(list[str]),
    "declared": TypeAdapter(tuple[str, ...]),
    "compressed": TypeAdapter(dict[str, str]),
}
PARAMETERS = "parameters"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said (JSON values), and arrays by name."""

    said: Any = None
    arrays: Arrays | None = None


def main(argv: Sequence[str]) -> int:
    """`worker TARGET FILE [THREADS]`: answer until the questions end; THREADS work on one image."""
    name, file, *threads = argv
    with _replies() as replies:
        preload(name)
        serve(name, Path(file), sys.stdin.buffer, replies, threads=int(threads[0]) if threads else None)
    return 0


def serve(target: str, path: Path, questions: IO[bytes], answers: IO[bytes], *, threads: int | None = None) -> None:
    """Answer until the questions end."""
    opened = _Opened(target, path, threads)
    while (question := read_message(questions)) is not None:
        asked, arrays = question
        send_message(answers, *_answered(opened, asked, arrays))


def _replies() -> IO[bytes]:
    """The standard output this process was started with, which from now on no one else writes to."""
    kept = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    return kept


class _Opened:
    """One file; what several questions need is read once."""

    def __init__(self, target: str, path: Path, threads: int | None) -> None:
        self._name = target
        self._threads = threads
        self.path = path

    @cached_property
    def _target(self) -> Target:
        return TARGETS[self._name]  # its module may need what is not installed

    @cached_property
    def _inspection(self) -> Inspection:
        # No reader asks for the precision; it is one of the things being read.
        return self._target.inspect(Artifact(target=self._name, precision="fp32", file=stored_file(self.path)))

    @cached_property
    def _artifact(self) -> Artifact:
        for precision in PRECISIONS:
            if self._inspection.metadata.get("precision") == precision:
                return Artifact(target=self._name, precision=precision, file=stored_file(self.path))
        raise ConversionError(f"{self.path.name} does not say its precision: not exported here; export it again")

    @cached_property
    def _session(self) -> OutputSession:
        return self._target.open(self._artifact, threads=self._threads)

    def session(self, _: Arrays) -> Answer:
        return Answer(said={"executed_by": self._session.executed_by, "timed": self._session.timed})

    def part(self, name: str) -> Answer:
        value = getattr(self._inspection, name)
        return (
            Answer(arrays=value)
            if name == PARAMETERS
            else Answer(said=PARTS[name].dump_python(value, mode="json", by_alias=True))
        )

    def run(self, arrays: Arrays) -> Answer:
        return Answer(arrays={"logits": self._session.run(arrays[IMAGES].astype(np.uint8, copy=False))})

    def outputs(self, arrays: Arrays) -> Answer:
        return Answer(arrays=self._session.outputs(arrays[IMAGES].astype(np.uint8, copy=False)))

    def time(self, arrays: Arrays) -> Answer:
        dropped, counted = (int(runs) for runs in arrays[RUNS])
        image, session = arrays[IMAGES].astype(np.uint8, copy=False), self._session
        if len(image) != 1 or counted < 1 or dropped < 0:
            raise InvalidMeasurement(
                f"a block is of one image and 1 or more inferences, not {len(image)} and {counted}"
            )
        spent, waited = watched(lambda: session.run(image), counted, dropped)
        return Answer(said=waited, arrays={NANOSECONDS: np.array(spent, np.int64)})

    def kernel(self, arrays: Arrays) -> Answer:
        dropped, counted = (int(runs) for runs in arrays[RUNS])
        return Answer(said=median_low(kernel_times(counted, dropped)))

    def trace(self, arrays: Arrays) -> Answer:
        return Answer(arrays=self._session.trace(arrays[IMAGES].astype(np.uint8, copy=False)))


QUESTIONS: Mapping[str, Callable[[_Opened, Arrays], Answer]] = {
    "session": _Opened.session,
    "run": _Opened.run,
    "outputs": _Opened.outputs,
    "trace": _Opened.trace,
    "time": _Opened.time,
    "kernel": _Opened.kernel,
}


def _answered(opened: _Opened, asked: Any, arrays: Arrays) -> tuple[dict[str, Any], Arrays]:  # noqa: ANN401 - JSON
    try:
        answer = QUESTIONS[asked](opened, arrays) if asked in QUESTIONS else opened.part(asked)
    except ExportError as error:
        return {"failed": str(error), "kind": type(error).__name__}, {}
    except ModuleNotFoundError as error:
        missing = unavailable(error) or ConversionError(first_line(error))
        return {"failed": str(missing), "kind": type(missing).__name__}, {}
    except Exception as error:  # noqa: BLE001 - a hostile file may fail in any way; the parent says it in one line
        reason = f"{opened.path.name} cannot be read ({type(error).__name__}: {first_line(error)}); export it again"
        return {"failed": reason, "kind": ConversionError.__name__}, {}
    return {"said": answer.said}, answer.arrays or {}


def send_message(stream: IO[bytes], said: Mapping[str, Any], arrays: Arrays) -> None:
    """Write one message."""
    content = {name: _packed(values) for name, values in arrays.items()}
    stream.write(json.dumps({**said, "arrays": {name: len(part) for name, part in content.items()}}).encode() + b"\n")
    for part in content.values():
        stream.write(part)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[Any, Arrays] | None:
    """The next message: its `ask`, or the whole header where it is an answer; None at the end of the stream.

    Who answers has opened a file that nobody trusts, so an answer is read as strictly as such a file.
    """
    line = stream.readline(LARGEST_HEADER)
    if not line.endswith(b"\n"):
        return None
    header: Any = strict_loads(line)
    lengths = header.pop("arrays")
    if min(lengths.values(), default=0) < 0 or sum(lengths.values()) > LARGEST_ARRAYS:
        raise ValueError(f"arrays of more than {LARGEST_ARRAYS:,} bytes")
    arrays = {name: parse_array(stream.read(length)) for name, length in lengths.items()}
    return header.get("ask", header), arrays


def _packed(values: NDArray[np.generic]) -> bytes:
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
