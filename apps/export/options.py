"""The flags of an export: one for each field of its options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.records import Precision
from rexnet_export.pipeline.export.options import Options, from_mapping, read_config
from rexnet_export.targets import USUAL, WORDS

BACKBONE_DEFAULTS = Options(output=Path("rexnet-backbone-out"))
# What people call a target, and what it is called here.
MEANT = {
    **dict.fromkeys(("ios", "iphone", "ipad", "apple", "mlpackage", "mlmodel"), "coreml"),
    **dict.fromkeys(("android", "litert", "tensorflow", "tf-lite"), "tflite"),
    **dict.fromkeys(("onnx", "onnxruntime", "web", "x86", "linux"), "ort"),
    **dict.fromkeys(("torch", "pytorch", "cuda"), "gpu"),
    "intel": "openvino",
}
GPU = "gpu"  # torch itself: no target of a backbone
COREML = "coreml"
PRECISION_HELP: dict[Precision, str] = {
    "int8": "INT8 weights and activations (default)",
    "fp16": "float16 weights",
    "fp32": "float32 throughout",
    "w8": "INT8 weights, float16 arithmetic (Core ML)",
    "w4": "4-bit palettes of weights, float16 arithmetic (Core ML, iOS 18)",
}


def add_flags(p: argparse.ArgumentParser, defaults: Options, texts: Mapping[str, str], targets: Sequence[str]) -> None:
    """One flag for each field of `Options` and how to report; what has no text, or is no target, is not shown.

    It is accepted all the same: the command refuses it with its reason.
    """
    p.add_argument("--config", type=Path, metavar="FILE", help="TOML file with the same options; flags win")
    for option in fields(Options):
        flag, text = f"--{option.name.replace('_', '-')}", texts.get(option.name)
        if option.name == "target":
            shown = f"{{{','.join([*targets, 'all'])}}}"
            p.add_argument(
                flag,
                action="append",
                choices=WORDS,
                metavar=shown,
                help=f"{text} (default: all, {_all_means(targets)})",
            )
        elif option.name == "precision":
            group = p.add_mutually_exclusive_group()
            for name, meaning in PRECISION_HELP.items():
                group.add_argument(f"--{name}", dest="precision", action="store_const", const=name, help=meaning)
        elif option.type == "bool":
            p.add_argument(flag, action="store_true", help=argparse.SUPPRESS if text is None else text)
        else:
            kind, value = _kind(str(option.type).split(" | ")), getattr(defaults, option.name)
            metavar = option.metadata["metavar"]
            several: dict[str, Any] = {}
            if isinstance(metavar, tuple):
                several = {"nargs": "+"}
            default = "" if value is None else f" (default: {value})"
            helped = argparse.SUPPRESS if text is None else (text + default).replace("%", "%%")
            p.add_argument(flag, type=kind, metavar=metavar, help=helped, **several)
    p.add_argument(
        "--sign",
        type=Path,
        default=None,
        metavar="KEY",
        help="private key (PEM) to sign the provenance of all files with; needs rexnet-export[sign]",
    )
    p.add_argument("--quiet", action="store_true", default=False, help="no progress, no table")
    p.add_argument("--debug", action="store_true", default=False, help="show tracebacks")


def _all_means(targets: Sequence[str]) -> str:
    """What is left out of `all`, if anything."""
    others = [name for name in targets if name not in USUAL]
    return f"which is all but {', '.join(others)}" if others else "every one"


def _kind(types: list[str]) -> type:
    """What a flag's text is made into; paths are made later."""
    return int if {"int", "Size"} & set(types) else float if {"float", "Colours"} & set(types) else str


def options_from(arguments: argparse.Namespace, defaults: Options) -> Options:
    """Defaults, then the TOML file, then the flags."""
    given = {f.name: getattr(arguments, f.name) for f in fields(Options) if hasattr(arguments, f.name)}
    configured: dict[str, Any] = read_config(arguments.config) if hasattr(arguments, "config") else {}
    return replace(defaults, **configured | from_mapping(given, "command line"))
