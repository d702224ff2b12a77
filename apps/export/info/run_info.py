"""What `rexnet-export info` does, and prints."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from rexnet_export.apps.export.info.describe import about
from rexnet_export.apps.export.info.info_json import BundleJson, FileJson, InfoJson
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import RGB, NotMeasured, Preprocess
from rexnet_export.pipeline.core.text import printable

NAMED = 5
DIGITS = 12  # of a digest, for reading; --json has all
MADE_FROM = {"checkpoint_sha256": "checkpoint", "float_onnx_sha256": "float graph", "table_sha256": "INT8 table"}
VARIANTS = {"v1": "ReXNetV1", "lite": "ReXNet-lite", "r": "rexnetr (channels divisible for GPUs)"}


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Look at the file, print what it is, and say what of a folder is broken; the exit code says that too."""
    found = about(arguments.file)
    if arguments.json:
        terminal.json(found.to_json())
    elif lines := list(_bundle(arguments.file, found.bundle) if found.bundle else _files(found)):
        terminal.out.print("\n".join(map(printable, lines)), soft_wrap=True)
    for reason in found.broken.values():
        terminal.fail(reason)
    return ConversionError.exit_code if found.broken else 0


type Row = tuple[str, str]


def _files(found: InfoJson) -> Iterator[str]:
    """A block a file; what is the same of all files of a folder stands once, above them."""
    rows = [list(_rows(file)) for file in found.files]
    common = [row for row in (rows or [[]])[0] if len(rows) > 1 and all(row in others for others in rows)]
    if len(rows) > 1:
        yield f"{found.path}: export folder, {len(rows)} files"
        yield from (_line(row) for row in common)
    for file, own in zip(found.files, rows, strict=True):
        precision = "" if isinstance(file.precision, NotMeasured) else f", {file.precision}"
        yield f"{file.file}: {file.format} {file.kind}{precision}, {file.bytes / 1e6:.1f} MB"
        yield from (_line(row) for row in own if row not in common)
    yield from (f"{name}: not read: {reason}" for name, reason in found.unread.items())


def _line(row: Row) -> str:
    return f"  {row[0]:<14}{row[1]}"


def _rows(file: FileJson) -> Iterator[Row]:
    yield "network", file.model + _shape(file)
    yield "classes", _classes(file)
    if len(file.outputs) > 1:
        yield "outputs", ", ".join(file.outputs)
    if isinstance(file.preprocess, NotMeasured):
        yield "input", f"{file.preprocess.reason}; say how with --image-size, --mean, --std, ..."
    else:
        yield "input", _preprocess(file.preprocess)
        yield "stated by", _sources(file)
    if not isinstance(file.int8_mac_fraction, NotMeasured):
        yield "INT8", f"{math.floor(file.int8_mac_fraction * 100)}% of the multiply-accumulates"
    elif file.kind == "artifact":
        yield "INT8", f"not counted: {file.int8_mac_fraction.reason}"
    for key, text in file.made_from.items():
        yield ("made by", text) if key == "generator" else (MADE_FROM[key], f"{text[:DIGITS]}...")
    yield "sha256", f"{file.sha256[:DIGITS]}..."
    yield from (("note", note) for note in file.notes)


def _shape(file: FileJson) -> str:
    if isinstance(file.network, NotMeasured):
        return ""
    network = file.network
    without = "" if network.squeeze_excitation else "out"
    return (
        f": {VARIANTS.get(network.variant, network.variant)}, width {network.width:g}, {network.blocks} blocks, "
        f"with{without} squeeze-excitation, {network.parameters:,} parameters"
    )


def _classes(file: FileJson) -> str:
    if isinstance(file.labels, NotMeasured):
        return f"{file.classes:,}; {file.labels.reason}"
    if not file.classes or not file.labels:
        return "none"
    more = ", ..." if len(file.labels) > NAMED else ""
    return f"{file.classes:,}: {', '.join(file.labels[:NAMED])}{more}"


def _preprocess(preprocess: Preprocess) -> str:
    height, width = preprocess.shape
    kind = "RGB" if preprocess.channels == RGB else f"with {preprocess.channels} channels"
    return (
        f"{height} x {width} {kind}; {preprocess.interpolation}, {preprocess.crop_mode}, crop ratio "
        f"{preprocess.crop_ratio:g}; mean {_numbers(preprocess.mean)}, std {_numbers(preprocess.std)}"
    )


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _sources(file: FileJson) -> str:
    """Fields by who stated them; what nobody stated has its usual value."""
    stated = sorted(file.preprocess_source.items(), key=lambda item: item[1])
    told = [
        f"{who} ({', '.join(name for name, _ in named)})" for who, named in groupby(stated, key=lambda item: item[1])
    ]
    return "; ".join(told) or "nobody"


def _bundle(path: str, bundle: BundleJson) -> Iterator[str]:
    yield f"{path}: bundle of {bundle.created_by}"
    yield _line(("images", f"{bundle.n:,}, {bundle.images}"))
    for file in bundle.files:
        yield _line(("artifact", f"{file.file}: {file.runtime}, {file.precision}, {file.bytes / 1e6:.1f} MB"))
    yield _line(("id", f"{bundle.bundle_id[:DIGITS]}..."))
