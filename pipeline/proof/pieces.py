"""Many images in pieces, each run by another process, maybe on another machine; what comes back is joined in order.

A piece is a whole number of batches, so every batch holds the images that it would hold in one process, and whoever
sums over batches does so in the same order: the result is the same to the bit, however many processes there are.
"""

from __future__ import annotations

import io
import socket
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from rexnet_export.pipeline.artifact.target import OutputSession, Target
from rexnet_export.pipeline.core.errors import DeviceError
from rexnet_export.pipeline.core.records import Artifact, Preprocess, StoredFile
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.machine.own_disk import own_disk
from rexnet_export.pipeline.machine.torch_threads import thread_count, torch_threads
from rexnet_export.pipeline.proof.network import Network, held
from rexnet_export.pipeline.proof.onnx_stages import StageName, predictions_key, stages
from rexnet_export.pipeline.proof.run_networks import REFERENCE, Given, Networks, RunImages, run_here

PIECE = 1024  # images, a multiple of `evaluate.BATCH`: minutes of work beside seconds of beginning it


class Workers(Protocol):
    """Processes that may take over work, such as those of a cluster."""

    def idle(self) -> bool:
        """Whether one of them has nothing to do now."""

    def each[Work, Part, Result](
        self, run: Callable[[Work, Part], Result], work: Work, parts: Sequence[Part]
    ) -> Generator[Result]:
        """`run(work, part)` of every part, in the order of the parts; the `ExportError` of the first that fails."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is the same for all pieces: the networks as another process opens them, and the images.

    `archive` holds the files of `graphs` and `files` (tar), `executed_by` what runs each network in the order in which
    they are run, and `threads` is how many torch uses.
    """

    reference: OutputSession | None
    graphs: Mapping[StageName, StoredFile]
    files: Mapping[str, tuple[Target, Artifact]]
    archive: bytes
    executed_by: Mapping[str, str]
    threads: int
    images: Images
    preprocess: Preprocess


def in_pieces(
    workers: Workers,
    graphs: Mapping[StageName, StoredFile],
    files: Mapping[str, tuple[Target, Artifact]],
    here: RunImages = run_here,
) -> RunImages:
    """Run images by `workers` where there are more than a piece of them and a worker has nothing to do, else by `here`.

    Of the networks to run, the reference travels as it is where it is one of them, and the others are opened again from
    `graphs` and `files`.
    """

    def run(networks: Networks, images: Images, preprocess: Preprocess) -> Iterator[Given]:
        pieces = cut(images.indices, PIECE)
        if len(pieces) < 2 or not workers.idle():
            yield from here(networks, images, preprocess)
            return
        running = {name: file for name, file in files.items() if name in networks}
        between = {name: graph for name, graph in graphs.items() if predictions_key(name) in networks}
        work = Work(
            reference=networks[REFERENCE].open() if REFERENCE in networks else None,
            graphs=between,
            files=running,
            archive=_packed([*between.values(), *(artifact.file for _, artifact in running.values())]),
            executed_by={name: network.executed_by for name, network in networks.items()},
            threads=thread_count(),
            images=replace(images, indices=(), labels=None),
            preprocess=preprocess,
        )
        with closing(workers.each(run_piece, work, pieces)) as ended:
            for name, outputs in chain.from_iterable(ended):
                # A copy: what comes from a cluster lies in its memory, which is to be free again.
                yield name, {output: np.array(values) for output, values in outputs.items()}

    return run


def cut(indices: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """The same in order, `size` at a time; the last may be fewer."""
    return [tuple(indices[start : start + size]) for start in range(0, len(indices), size)]


def run_piece(work: Work, indices: tuple[int, ...]) -> list[Given]:
    """What every network gives for some of the images, in a process that may share no folder with the one that asked.

    `DeviceError` where they are not run here by what runs them there, `UsageError` where the disk is full.
    """
    with tempfile.TemporaryDirectory() as name:
        with own_disk(), tarfile.open(fileobj=io.BytesIO(work.archive)) as archive:
            archive.extractall(name, filter="data")
        networks = _opened(work, Path(name))
        with torch_threads(work.threads):  # what is opened may have been the first to load torch
            return list(run_here(networks, replace(work.images, indices=indices), work.preprocess))


def _opened(work: Work, folder: Path) -> dict[str, Network]:
    """All networks, in their order."""

    def here(file: StoredFile) -> StoredFile:
        return replace(file, path=folder / file.path.name)

    found: dict[str, Network] = {
        **({} if work.reference is None else {REFERENCE: held(work.reference)}),
        **stages({name: here(file) for name, file in work.graphs.items()}),
        **{
            name: held(target.open(replace(artifact, file=here(artifact.file))))  # emulated or not: opened once
            for name, (target, artifact) in work.files.items()
        },
    }
    for name, there in work.executed_by.items():
        if found[name].executed_by != there:
            raise DeviceError(
                f"{name} is run by {found[name].executed_by} on the worker {socket.gethostname()} and by {there} where "
                "its export is: install the same versions on all workers"
            )
    return {name: found[name] for name in work.executed_by}


def _packed(files: Sequence[StoredFile]) -> bytes:
    """Files and folders, each by its own name, as a tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in dict.fromkeys(file.path for file in files):
            archive.add(path, arcname=path.name)
    return content.getvalue()
