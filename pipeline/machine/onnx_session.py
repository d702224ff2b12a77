"""ONNX Runtime sessions: the one place where graphs and files of ours are opened, silent, errors in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.pipeline.core.errors import ConversionError, first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

CPU = "CPUExecutionProvider"
IMAGES_AT_ONCE, PIXELS_AT_ONCE = 8, 8 * 64 * 64  # more take memory, which sessions keep, and no less time
type Provider = str | tuple[str, Mapping[str, str]]  # by name, or with its options

# Without VNNI, x86 adds pairs of products of uint8 and int8 in 16 bits, which saturate; this option keeps them exact.
EXACT_SUMS = ("session.x64quantprecision", "1")
# ONNX Runtime would give the weights of one float layer between integers scales of its own, and compute it in INT8.
QUANTIZES_FLOAT_WEIGHTS = "WeightBiasQuantization"


def images_at_once(height: int, width: int) -> int:
    """How many images of this size a session is given at once: the activations of eight of 64 x 64 pixels, or one."""
    return max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def session_options(threads: int = 1) -> SessionOptions:
    """Options of a session that prints nothing and works on an image with so many threads; 0 leaves that to it."""
    import onnxruntime  # noqa: PLC0415 - a toolchain: a second that only those who run a graph should wait

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    return options


def exact_options(threads: int = 1) -> SessionOptions:
    """The same for graphs whose integers must be exact on every processor, at some cost without VNNI."""
    options = session_options(threads)
    options.add_session_config_entry(*EXACT_SUMS)
    return options


def open_session(
    model: bytes | Path,
    name: str,
    options: SessionOptions,
    *,
    providers: Sequence[Provider] = (CPU,),
    without: Sequence[str] = (),
) -> InferenceSession:
    """Load a model, but for the optimizers `without`; ConversionError names it as `name`."""
    import onnxruntime  # noqa: PLC0415 - as above

    try:
        return onnxruntime.InferenceSession(
            model,
            options,
            providers=list(providers),
            disabled_optimizers=[QUANTIZES_FLOAT_WEIGHTS, *without],
            enable_fallback=0,  # the fallback tries once more and prints
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ConversionError(f"ONNX Runtime cannot open {name}: {first_line(error)}") from error
