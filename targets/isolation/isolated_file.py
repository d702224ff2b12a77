"""A finished file, looked at from a distance: everything that opens it happens in a child process.

A file that crashes its runtime, or makes it hang, then costs one process and becomes one line of error. This guards
against damage and accidents; it is no sandbox against code that attacks the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from signal import Signals
from threading import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.core import errors
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, ProcessEnded, UsageError
from rexnet_export.targets import SUFFIXES, TARGETS
from rexnet_export.targets.isolation.file_process import start
from rexnet_export.targets.isolation.worker import (
    IMAGES,
    NANOSECONDS,
    PARAMETERS,
    PARTS,
    RUNS,
    Arrays,
    read_message,
    send_message,
)

ANSWER_WITHIN_S = 900.0


class IsolatedFile:
    """One artifact in a process of its own; it answers as the target's own reader and session would.

    The errors are those that the target raises; a process that ends or falls silent is `ProcessEnded`.
    """

    def __init__(self, path: Path, *, threads: int | None = None, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self.path = path
        self._patience = answer_within_s
        self._process = start(target_of(path), path, threads)
        self._late = False
        self._said: Mapping[str, Any] | None = None

    @property
    def process_id(self) -> int:
        """Of the process that has the file open."""
        return self._process.pid

    def inspect(self) -> Inspection:
        """What the file really holds; every part is a question of its own, so that a crash costs that one alone."""
        return Inspection(
            parameters=lambda: self._ask(PARAMETERS)[1],
            **{name: partial(self._part, name) for name in PARTS},
        )

    @property
    def executed_by(self) -> str:
        """The runtime and its version."""
        return str(self._session()["executed_by"])

    @property
    def timed(self) -> bool:
        """Whether its speed is a runtime's own."""
        return bool(self._session()["timed"])

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        _, arrays = self._ask("run", {IMAGES: images})
        return arrays["logits"].astype(np.float32, copy=False)

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> what the file declares, by ONNX tensor name (`OutputSession.outputs`)."""
        return self._tensors("outputs", images)

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Every activation as real numbers, by ONNX tensor name."""
        return self._tensors("trace", images)

    def _tensors(self, question: str, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        _, arrays = self._ask(question, {IMAGES: images})
        return {name: values.astype(np.float32, copy=False) for name, values in arrays.items()}

    def time_block(self, image: NDArray[np.uint8], *, dropped: int, counted: int) -> tuple[int, ...]:
        """Nanoseconds of each of `counted` inferences of one image [1, S, S, 3], after `dropped` that do not count."""
        return self.watch_block(image, dropped=dropped, counted=counted)[0]

    def watch_block(self, image: NDArray[np.uint8], *, dropped: int, counted: int) -> tuple[tuple[int, ...], int]:
        """The same, and how many of the counted inferences waited for a processor."""
        waited, arrays = self._ask("time", {IMAGES: image, RUNS: np.array([dropped, counted])})
        return tuple(int(spent) for spent in arrays[NANOSECONDS]), int(waited)

    def time_kernel(self, *, dropped: int, counted: int) -> int:
        """Median nanoseconds of the reference kernel in this process."""
        said, _ = self._ask("kernel", {RUNS: np.array([dropped, counted])})
        return int(said)

    def close(self) -> None:
        """End the process."""
        self._process.end()
        for stream in (self._process.questions, self._process.answers):
            with suppress(BrokenPipeError):  # a question it never read
                stream.close()

    def __enter__(self) -> IsolatedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _part(self, name: str) -> Any:  # noqa: ANN401 - one of an inspection's parts
        said, _ = self._ask(name)
        try:
            return PARTS[name].validate_python(said)
        except ValidationError as error:
            raise ConversionError(f"{self.path.name} gives {name} that are none; export it again") from error

    def _session(self) -> Mapping[str, Any]:
        if self._said is None:
            self._said, _ = self._ask("session")
        return self._said

    def _ask(self, question: str, given: Arrays | None = None) -> tuple[Any, Arrays]:
        with self._limited():
            try:
                send_message(self._process.questions, {"ask": question}, given or {})
                message = read_message(self._process.answers)
            except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, ConversionError) as error:
                raise self._ended(question) from error
        if message is None:
            raise self._ended(question)
        header, arrays = message
        if "failed" in header:
            raise _error(header["kind"], header["failed"])
        return header["said"], arrays

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """End the process when it does not answer in time."""
        timer = Timer(self._patience, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _ended(self, question: str) -> ProcessEnded:
        code = self._process.end()
        if self._late:
            how = f"gave no answer in {self._patience:g} s"
        elif code < 0:
            how = f"crashed the process that opened it ({Signals(-code).name})"
        else:
            how = f"ended the process that opened it (code {code})"
        return ProcessEnded(f"{self.path.name} {how} when asked for its {question}; it is damaged: export it again")


def target_of(path: Path) -> str:
    """The name of the target whose files end like this; `UsageError` where none does."""
    for name, listing in TARGETS.listings.items():
        if path.suffix in listing.suffixes:
            return name
    raise UsageError(f"{path} is no artifact by its name: artifacts end in {', '.join(SUFFIXES)}")


def _error(kind: str, message: str) -> ExportError:
    """The worker's error, of the class it was there."""
    found = getattr(errors, kind, ConversionError)
    return found(message) if isinstance(found, type) and issubclass(found, ExportError) else ConversionError(message)
