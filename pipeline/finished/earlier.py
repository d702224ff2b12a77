"""A finished export as the start of another: its float graph, its table, and what it found of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from rexnet_export.pipeline.artifact.export_folder import MOST_RECORD_BYTES, digests, require_whole, stored
from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.files import BACKBONE_FILE, MANIFEST_FILE, QPARAMS_FILE, REPORT_FILE
from rexnet_export.pipeline.core.json_record import JsonRecord
from rexnet_export.pipeline.core.records import AtLeastOne, ModelCard, StoredFile
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.pipeline.data.settle import FLAGS, settled, shown
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.graph.float_tracer import LOGITS
from rexnet_export.pipeline.graph.parity import OutputParity, Parity
from rexnet_export.pipeline.graph.read_graph import read_float_graph
from rexnet_export.pipeline.report.report_json import LogitParityJson

FLOAT_GRAPH = "-float.onnx"
# What an export decides once, for all files that are ever made of its graphs.
DECIDED = (
    *("weights", "head", "head_activation", "regression", "labels", "class_order"),
    *("calibration_data", "calibration_images", "effort", "statistic", "max_drop", "qparams"),
)


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A finished export whose files are all as its manifest says.

    `graph` is the content of its float graph, `parity` what its report says of it, `images` on how many images it was
    measured; `digests` are the manifest's.
    """

    folder: Path
    manifest: StoredFile
    digests: Mapping[str, str]
    card: ModelCard
    graph: bytes
    parity: Parity
    images: int

    def require_same(self, file: StoredFile) -> None:
        """`ConversionError` where a file that was made again is not the earlier one."""
        if self.digests.get(file.path.name) != file.sha256:
            raise ConversionError(
                f"{file.path.name} made again is not the one in {self.folder}, which another release may have written; "
                "export from the checkpoint"
            )


class _Measured(JsonRecord):
    """Of the reference only how many images it was run on."""

    model_config = ConfigDict(extra="ignore")

    n: AtLeastOne


class _Reported(JsonRecord):
    """Of a classifier's report only how near the graph is to torch, and the reference."""

    model_config = ConfigDict(extra="ignore")

    onnx_parity: LogitParityJson
    reference: _Measured


def read_earlier(folder: Path, options: Options) -> Earlier:
    """Check a folder against its manifest, then read its float graph and its report.

    `UsageError` where the options ask for what this export cannot give or has decided otherwise; `ConversionError`
    where a file is not what it was, or not what an export writes.
    """
    manifest = stored(folder / MANIFEST_FILE)
    require_whole(folder)
    known = digests(folder)
    _require_classifier(folder, known)
    if options.precision == "int8" and QPARAMS_FILE not in known:
        raise UsageError(
            f"--int8: {folder} holds no quantization table, as it was not exported in INT8; choose another precision, "
            "or export from the checkpoint"
        )
    graphs = [name for name in known if name.endswith(FLOAT_GRAPH)]
    if len(graphs) != 1:
        raise ConversionError(f"{folder} has {len(graphs)} float graphs (*{FLOAT_GRAPH}), not one; export again")
    graph, card = read_float_graph(folder / graphs[0], known[graphs[0]])
    if graphs[0] != f"{card.name}{FLOAT_GRAPH}":
        raise ConversionError(f"{folder / graphs[0]} says that it is {card.name!a}; export again")
    _require_agreeing(options, card, folder)
    reported = _reported(folder / REPORT_FILE)
    return Earlier(
        folder=folder,
        manifest=manifest,
        digests=known,
        card=card,
        graph=graph,
        parity=_parity(reported.onnx_parity),
        images=reported.reference.n,
    )


def _require_classifier(folder: Path, known: Mapping[str, str]) -> None:
    if BACKBONE_FILE in known:
        raise UsageError(f"{folder} is an export of a backbone, which is made from a checkpoint alone; name that")
    if REPORT_FILE not in known:
        raise ConversionError(f"{folder} has no {REPORT_FILE}; name a folder that rexnet-export wrote")


def require_undecided(options: Options, folder: Path) -> None:
    """`UsageError` where a flag asks for what an export decides once."""
    for name in DECIDED:
        value: Any = getattr(options, name)
        if value != getattr(Options(), name):
            text = "" if value is True else f" {value}"
            raise UsageError(
                f"--{name.replace('_', '-')}{text}: {folder} is a finished export, which has decided that; leave it "
                "out, or export from the checkpoint"
            )


def _require_agreeing(options: Options, card: ModelCard, folder: Path) -> None:
    """`UsageError` where a flag says otherwise than the export that is gone on with."""
    stated = vars(card.preprocess)
    asked = vars(settled(options.preprocess, stated, {}, card.preprocess.channels).preprocess)
    for name, value in stated.items():
        if asked[name] != value:
            raise UsageError(
                f"{FLAGS[name]} {shown(asked[name])}: {folder} was exported with {shown(value)}; leave it out, or "
                "export from the checkpoint"
            )


def _reported(report: Path) -> _Reported:
    try:
        return _Reported.parse(read_untrusted(report, MOST_RECORD_BYTES))
    except OSError as error:
        raise ConversionError(f"{report} cannot be read ({error.strerror}); export again") from error
    except ConversionError as error:
        raise ConversionError(f"{report} is no report of rexnet-export: {error}; export again") from error


def _parity(said: LogitParityJson) -> Parity:
    logits = OutputParity(largest_difference=said.max_abs_difference, largest=said.largest_logit)
    return Parity(outputs={LOGITS: logits}, same_top1=said.same_top1, n=said.n)
