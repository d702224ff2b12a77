"""From a float graph and its table to every target's artifact: the same for the classifier and for its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rexnet_export.pipeline.artifact.self_test import sample_thumbnails
from rexnet_export.pipeline.artifact.target import Source, Target
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Artifact, ModelCard, Reading, StoredFile
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.quantized import Quantized
from rexnet_export.pipeline.machine.heap import give_back


def source_of(
    card: ModelCard,
    options: Options,
    float_onnx: StoredFile,
    quantized: Quantized | None,
    checkpoint: StoredFile | None,
    reading: Reading,
) -> Source:
    """What the targets convert; quantizing may have rewritten the float graph."""
    return Source(
        card=card,
        precision=options.precision,
        checkpoint=checkpoint,
        float_onnx=quantized.float_onnx if quantized else float_onnx,
        table=quantized.table if quantized else None,
        table_sha256=quantized.table_file.sha256 if quantized else None,
        qdq_onnx=quantized.qdq if quantized else None,
        golden=sample_thumbnails(card.preprocess.channels),
        reading=reading,
        scores=options.scores,
    )


def converted(
    targets: Sequence[Target], source: Source, folder: Path, progress: Progress
) -> list[tuple[Target, Artifact]]:
    """Every target's artifact in `folder`, named after the network and the precision."""
    artifacts = []
    with progress.stage("converting", len(targets), "targets") as bar:
        for target in targets:
            artifacts.append((target, target.convert(source, folder, f"{source.card.name}-{source.precision}")))
            give_back()
            bar.advance(1, target.name)
    return artifacts
