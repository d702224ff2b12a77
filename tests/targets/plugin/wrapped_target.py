"""A target as another package would bring it: a quantized or float `.onnx` in an envelope of its own."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.target import OutputSession, Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.targets.ort.session import open_session
from rexnet_export.targets.ort.target import Ort

MARK = b"WRAPPED\n"


class Wrapped:
    """ONNX Runtime does the work."""

    name = "wrapped"
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    suffixes = (".wrapped",)

    def require(self) -> None:
        Ort().require()

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        with tempfile.TemporaryDirectory() as place:
            Ort().convert(source, Path(place), stem)
            content = Path(place, f"{stem}.onnx").read_bytes()
        path = folder / f"{stem}.wrapped"
        path.write_bytes(MARK + hashlib.sha256(content).digest() + content)
        return Artifact(target=self.name, precision=source.precision, file=stored_file(path))

    def open(self, artifact: Artifact, *, threads: int | None = None) -> OutputSession:
        with _unwrapped(artifact) as inside:
            session = open_session(inside.file.path, threads=threads or 1)
            # The tracer reads the file once more, so it is made while the file is there.
            session.trace(np.zeros((1, *session.shape), np.uint8))
            return session

    def inspect(self, artifact: Artifact) -> Inspection:
        with _unwrapped(artifact) as inside:
            there = Ort().inspect(inside)
            metadata, coverage, structure = there.metadata, there.coverage, there.structure
            qparams, parameters = there.qparams, there.parameters
        return Inspection(
            metadata=lambda: metadata,
            coverage=lambda: coverage,
            structure=lambda: structure,
            qparams=lambda: qparams,
            parameters=lambda: parameters,
        )


@contextmanager
def _unwrapped(artifact: Artifact) -> Iterator[Artifact]:
    path = artifact.file.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror}") from error
    body = content[len(MARK) + 32 :]
    if content[: len(MARK)] != MARK or hashlib.sha256(body).digest() != content[len(MARK) : len(MARK) + 32]:
        raise ConversionError(f"{path.name} is no whole wrapped file; export the model again")
    with tempfile.TemporaryDirectory() as place:
        inner = Path(place, f"{path.stem}.onnx")
        inner.write_bytes(body)
        yield replace(artifact, file=stored_file(inner))
