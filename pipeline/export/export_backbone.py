"""The loop for a network without its head: the same table road as the classifier's, verified output by output."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.files import BACKBONE_FILE
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import BackboneCard, StoredFile, stored_file
from rexnet_export.pipeline.data.selection import Images, checked
from rexnet_export.pipeline.data.sources import choose, open_source
from rexnet_export.pipeline.export.backbone_report import BackboneReport, Differences
from rexnet_export.pipeline.export.convert import converted, require_targets, source_of
from rexnet_export.pipeline.export.export import save_manifest
from rexnet_export.pipeline.export.inputs import Inputs, gather
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.prove_backbone import pixel_batches, proven
from rexnet_export.pipeline.export.publish import move, staging
from rexnet_export.pipeline.export.quantize import Quantized, calibrate, carried, take
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.graph.float_tracer import float_trace
from rexnet_export.pipeline.model.backbone import cut, features, tapped
from rexnet_export.pipeline.model.torch_session import TorchSession, open_reference
from rexnet_export.pipeline.proof.compare import TensorComparison
from rexnet_export.quantization.onnx.view import model_sha256, view
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.scheme import plan
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.quantization.table.table_file import load_table

PARITY_IMAGES = 16
TOLERANCE = 1e-4  # of an output's largest value, as for the classifier's logits


def export_backbone(options: Options, targets: Sequence[Target], progress: Progress) -> BackboneReport:
    """Make, execute and measure the backbone's artifacts and write the output folder, whole or not at all."""
    require_targets(targets, options.precision)
    if options.labels:
        raise UsageError(f"--labels {options.labels}: a backbone has no classes; leave it out")
    if options.max_drop is not None:
        raise UsageError(f"--max-drop {options.max_drop:g}: a backbone has no top-1; leave it out")
    # Features are compared with the float network's, which needs no labels: any folder of images will do.
    inputs = gather(replace(options, eval_data=None), progress)
    for notice in inputs.notices:
        progress.note(notice)
    images = _unlabelled(options, progress) if options.eval_data else inputs.evaluation
    with staging(options.output) as folder:
        report = _export_into(folder, options, replace(inputs, evaluation=images), targets, progress)
        (folder / BACKBONE_FILE).write_text(to_text(report.to_json()), encoding="utf-8")
        save_manifest(folder, options, inputs)
        move(folder, options.output)
    return report


def _unlabelled(options: Options, progress: Progress) -> Images:
    assert options.eval_data is not None
    source = open_source(options.eval_data, labelled=False, strict=options.strict)
    indices = tuple(sorted(choose(source, options.eval_images or len(source), options.seed)))
    return checked(Images(source=source, indices=indices, labels=None), options.max_bad_images or 0, progress)


def _export_into(
    folder: Path, options: Options, inputs: Inputs, targets: Sequence[Target], progress: Progress
) -> BackboneReport:
    network = inputs.checkpoint.network
    card = BackboneCard(
        name=f"{inputs.card.name}_features",
        labels=(),
        preprocess=inputs.card.preprocess,
        preprocess_source=inputs.card.preprocess_source,
        checkpoint_sha256=inputs.card.checkpoint_sha256,
        features=features(network.spec),
    )
    whole = float_graph(network, card.preprocess)
    float_onnx = _stored(cut(whole, card.features), folder / f"{card.name}-float.onnx", card)
    reference = open_reference(network, card.preprocess)
    parity = _parity(reference, float_onnx, inputs.evaluation, card)
    quantized = _quantized(folder, card, whole, options, inputs, float_onnx, progress)
    if quantized and quantized.float_onnx != float_onnx:
        parity = _parity(reference, quantized.float_onnx, inputs.evaluation, card)
    source = source_of(card, options.precision, inputs, float_onnx, quantized)
    artifacts = converted(targets, source, folder, progress)
    return BackboneReport(
        card=card,
        notices=inputs.notices,
        precision=options.precision,
        reference=reference.executed_by,
        images=inputs.evaluation.source.name,
        n=len(inputs.evaluation.indices),
        onnx_parity=parity,
        calibration=quantized.calibration if quantized else None,
        targets=proven(artifacts, reference, inputs.evaluation, source, progress),
    )


def _stored(model: onnx.ModelProto, path: Path, card: BackboneCard) -> StoredFile:
    onnx.helper.set_model_props(model, describe(card, precision="fp32"))
    path.write_bytes(model.SerializeToString(deterministic=True))
    return stored_file(path)


def _quantized(
    folder: Path,
    card: BackboneCard,
    whole: onnx.ModelProto,
    options: Options,
    inputs: Inputs,
    float_onnx: StoredFile,
    progress: Progress,
) -> Quantized | None:
    """The table: calibrated with the head still there, so that the logits judge it, then cut like the graph."""
    if options.qparams is not None:
        return take(folder, card, load_table(options.qparams), options.qparams.name, float_onnx)
    plain = onnx.load(float_onnx.path)
    if inputs.calibration is not None:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            with_head = Path(scratch) / "tapped.onnx"
            onnx.save(tapped(whole, card.features), with_head)
            made = calibrate(Path(scratch), inputs.card, inputs.calibration, options, stored_file(with_head), progress)
        taken = take(folder, card, narrowed(made.table, plain), made.calibration.source, float_onnx)
        return replace(taken, calibration=made.calibration)
    if options.precision == "int8" and (table := carried(inputs.checkpoint)):
        name = inputs.checkpoint.file.path.name
        try:
            table = narrowed(table, plain)
        except ConversionError as error:
            raise UsageError(
                f"the quantization table in {name} rescales the backbone's own outputs; give --calibration-data to "
                "make another"
            ) from error
        return take(folder, card, table, name, float_onnx)
    return None


def narrowed(table: QuantTable, model: onnx.ModelProto) -> QuantTable:
    """The part of a table, made for a float graph with more behind it, that the cut graph `model` needs."""
    computed = {name for node in model.graph.node for name in node.output}
    rewrites = tuple(rewrite for rewrite in table.rewrites if rewrite.tensor in computed)
    rewritten = apply(model, rewrites)
    needed = plan(view(rewritten))
    return replace(
        table,
        tensors={name: entry for name, entry in table.tensors.items() if name in needed},
        rewrites=rewrites,
        model_sha256=model_sha256(rewritten),
    )


def _parity(reference: TorchSession, float_onnx: StoredFile, images: Images, card: BackboneCard) -> Differences:
    """How far the float ONNX file's outputs are from torch's; `ConversionError` names one that is not torch's."""
    tracer, comparison = float_trace(float_onnx.path), TensorComparison({})
    largest: dict[str, float] = {}
    for pixels in pixel_batches(images, card.preprocess, PARITY_IMAGES):
        expected, traced = reference.features(pixels), tracer.trace(pixels)
        comparison.add(expected, {name: traced[name] for name in expected})
        for name, values in expected.items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max()))
    found = comparison.result().tensors
    for each in found:
        if each.largest > TOLERANCE * largest[each.name]:
            raise ConversionError(
                f"{float_onnx.path.name} is not the torch network: {each.name} differs by {each.largest:.3g} where it "
                f"reaches {largest[each.name]:.3g}; report this with the checkpoint"
            )
    return found
