"""What `rexnet-bench gpu` measures: a network, images for its accuracy, and its graphs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import onnx

from rexnet_export.pipeline.artifact.export_folder import artifact_at
from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import QPARAMS_FILE, REPORT_FILE
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import RGB, Measurement, ModelCard, NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images, labelled_images
from rexnet_export.pipeline.data.settle import settled
from rexnet_export.pipeline.data.sources import bundled, open_source
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.quantization.table.table_file import load_table
from rexnet_export.targets.gpu.tensorrt_graph import symmetric_graph

NO_TABLE = NotMeasured(reason="a checkpoint alone has no INT8 table: give the folder of an INT8 export")
NO_INT8 = NotMeasured(reason="the export is not INT8, so its folder holds no table")
NO_IMAGES = NotMeasured(reason="the bundled images are of other classes than the network's: give --eval-data")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A checkpoint with its preprocessing and, of an INT8 export, its table; `images` are labelled."""

    checkpoint: LoadedCheckpoint
    preprocess: Preprocess
    images: Measurement[Images]
    table: Measurement[QuantTable]

    def float_model(self) -> onnx.ModelProto:
        """The float graph, uint8 `image` [batch, H, W, C] to `logits`."""
        return float_graph(self.checkpoint.network, self.preprocess)

    def symmetric_model(self) -> onnx.ModelProto:
        """The table's graph as TensorRT takes it."""
        assert not isinstance(self.table, NotMeasured)
        return symmetric_graph(apply(self.float_model(), self.table.rewrites), self.table)


def subject(options: argparse.Namespace, progress: Progress) -> Subject:
    """Load what the command line names; what is assumed of it is noted."""
    where = Path(options.model) if options.model else bundled_checkpoint()
    is_export = (where / REPORT_FILE).is_file()
    checkpoint = load(str(artifact_at(where, "gpu", (".safetensors",)) if is_export else options.model or where))
    spec, stated = checkpoint.network.spec, checkpoint.stated.preprocess
    preprocess = settled({}, stated.fields(), stated.sources, spec.channels)
    for note in filter(None, (preprocess.assumption, *checkpoint.notes)):
        progress.note(note)
    card = ModelCard(
        name=spec.name,
        labels=checkpoint.labels or (),
        preprocess=preprocess.preprocess,
        checkpoint_sha256=checkpoint.file.sha256,
    )
    return Subject(
        checkpoint=checkpoint,
        preprocess=preprocess.preprocess,
        images=_images(options, card, progress),
        table=_table(where) if is_export else NO_TABLE,
    )


def _table(folder: Path) -> Measurement[QuantTable]:
    path = folder / QPARAMS_FILE
    return load_table(path) if path.is_file() else NO_INT8


def _images(options: argparse.Namespace, card: ModelCard, progress: Progress) -> Measurement[Images]:
    if options.eval_data is None:
        if options.eval_labels is not None:
            raise UsageError(f"--eval-labels {options.eval_labels}: name the images' folder with --eval-data")
        source = bundled("evaluation")
        if card.preprocess.channels != RGB or card.labels != source.class_names:
            return NO_IMAGES
        return labelled_images(source, card, options.images, options.seed, progress=progress)
    source = open_source(
        options.eval_data, labelled=True, image_labels=options.eval_labels, channels=card.preprocess.channels
    )
    return labelled_images(source, card, options.images, options.seed, progress=progress)
