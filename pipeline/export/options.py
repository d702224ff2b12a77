"""What one export is asked to do; the same record feeds the command line, the TOML file and the Python call."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.errors import UsageError, first_line
from rexnet_export.pipeline.core.meant import did_you_mean, one_of
from rexnet_export.pipeline.core.records import (
    ACTIVATIONS,
    INTERPOLATIONS,
    PRECISIONS,
    SCORES,
    Precision,
    Reading,
    Scores,
    Size,
)
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.pipeline.data.settle import check_given, size_of
from rexnet_export.quantization.calibration.statistic_names import check_statistic

SEEDS = 2**32
LARGEST_CONFIG = 2**20
LARGEST_NUMBER = 2**63
FAST, HIGH = "fast", "high"
EACH = ("R", "G B")
ORDERS = ("string", "natural")
DEFAULT_SCORES: Scores = "both"
EFFORTS = (FAST, "default", HIGH)
QUICK, FULL = "quick", "full"
PROOFS = (QUICK, FULL)


type Colours = tuple[float, ...]


def _option[T](default: T, text: str, metavar: str | tuple[str, ...] | None = None) -> T:
    value: T = field(default=default, metadata={"help": text, "metavar": metavar})
    return value


@dataclass(frozen=True, kw_only=True)
class Options:
    """One export; field names with dashes are the flags and the TOML keys."""

    checkpoint: str | None = _option(
        None,
        "trained weights: a file, a folder or OWNER/NAME on the Hugging Face Hub (default: the bundled one); or the "
        "folder of a finished export, of which further targets are made without torch",
    )
    weights: str | None = _option(
        None, "which of several networks in the checkpoint, such as model or state_dict_ema (default: averaged)", "NAME"
    )
    head: str | None = _option(
        None, "which of several heads gives the logits; the others are outputs beside them", "NAME"
    )
    head_activation: str | None = _option(
        None, f"what stands between the linear layers of a head: {', '.join(ACTIVATIONS)}", "NAME"
    )
    regression: bool = _option(default=False, text="the head gives numbers, not classes: there is no top-1")
    target: tuple[str, ...] = _option(("all",), "what to make; may be given several times")
    precision: Precision = _option("int8", "number format of weights and activations")
    scores: Scores = _option(
        DEFAULT_SCORES, "what a TFLite or ONNX file gives: logits, probabilities (their softmax) or both", "WHICH"
    )
    calibration_data: Path | None = _option(None, "folder of images like those the model will see", "DIR")
    calibration_images: int = _option(512, "how many of them INT8 is decided by", "N")
    effort: str = _option("default", "how hard INT8 is searched for: fast, default or high", "LEVEL")
    statistic: str | None = _option(
        None,
        "INT8 ranges: auto, min-max, mean-min-max, percentile-P, entropy or mse (default: auto; min-max with "
        "--effort fast)",
        "NAME",
    )
    max_drop: float | None = _option(
        None, "leave the fewest layers in float that keep top-1 within so many percentage points of float", "POINTS"
    )
    qparams: Path | None = _option(None, "quantization table to build from instead of calibrating", "FILE")
    eval_data: Path | None = _option(None, "folder of images, one sub-folder per class", "DIR")
    eval_images: int | None = _option(None, "how many of them to evaluate on (default: all)", "N")
    eval_labels: Path | None = _option(
        None, "labels of images that lie in one folder: `filename,label` lines, or a label per image", "FILE"
    )
    proof: str = _option(
        QUICK,
        "judge files that are emulated here on as many images as show enough (quick), or on all like the others (full)",
        "HOW",
    )
    max_bad_images: int | None = _option(
        None,
        "how many unusable images to leave out (default: none to evaluate on, one in a hundred to calibrate on)",
        "N",
    )
    strict: bool = _option(default=False, text="refuse folders that hold other files than images")
    image_size: Size | None = _option(
        None, "input size, or height and width, multiples of 16 (default: the checkpoint's)", ("PX", "W")
    )
    crop_mode: str | None = _option(
        None,
        "center fits the short side and crops, squash stretches the image to the input, border pads it (default: the "
        "checkpoint's)",
        "MODE",
    )
    crop_ratio: float | None = _option(None, "input size / resized side (default: the checkpoint's)", "RATIO")
    interpolation: str | None = _option(
        None, f"of the resize: {', '.join(INTERPOLATIONS)} (default: the checkpoint's)", "NAME"
    )
    mean: Colours | None = _option(
        None, "of the training images in [0, 1], by channel or one for all (default: the checkpoint's)", EACH
    )
    std: Colours | None = _option(
        None, "of the training images in [0, 1], by channel or one for all (default: the checkpoint's)", EACH
    )
    labels: Path | None = _option(
        None, "class names in class order: lines, JSON or CSV (default: the checkpoint's, else the folders')", "FILE"
    )
    class_order: str | None = _option(
        None, "how folder names sort where string and natural order differ (default: what the network favours)", "ORDER"
    )
    seed: int = _option(0, "chooses the calibration and evaluation images", "N")
    output: Path = _option(Path("rexnet-export-out"), "where the files go", "DIR")

    def __post_init__(self) -> None:
        """Refuse values no run could honour."""
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("scores", self.scores, SCORES)
        _one_of("effort", self.effort, EFFORTS)
        _one_of("proof", self.proof, PROOFS)
        self._check_head()
        if self.statistic is not None:
            check_statistic(self.statistic)
        for name in ("calibration_images", "eval_images"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise UsageError(f"--{_flag(name)} {count}: must be at least 1")
        if self.class_order is not None:
            _one_of("class-order", self.class_order, ORDERS)
        if self.max_bad_images is not None and self.max_bad_images < 0:
            raise UsageError(f"--max-bad-images {self.max_bad_images}: must be at least 0")
        if self.eval_labels is not None and self.eval_data is None:
            raise UsageError(f"--eval-labels {self.eval_labels}: name the images' folder with --eval-data")
        if self.qparams is not None and self.precision != "int8":
            raise UsageError(f"--qparams {self.qparams}: {self.precision} has no quantization table; leave one out")
        self._check_max_drop()
        if not 0 <= self.seed < SEEDS:
            raise UsageError(f"--seed {self.seed}: must be from 0 to {SEEDS - 1}")
        check_given(self.preprocess)

    @property
    def preprocess(self) -> dict[str, Any]:
        """The fields of `Preprocess` that are asked for, None where one is not."""
        return {
            "size": self.image_size,
            **{name: getattr(self, name) for name in ("crop_mode", "crop_ratio", "interpolation", "mean", "std")},
        }

    def reading(self, *, headless: bool = False) -> Reading:
        """How the checkpoint is to be read; `headless` allows one without a classifier."""
        activation = next((known for known in ACTIVATIONS if known == self.head_activation), None)
        return Reading(weights=self.weights, head=self.head, head_activation=activation, headless=headless)

    @property
    def of_classes(self) -> tuple[str, ...]:
        """Names of what was asked for and means something of classes alone."""
        names = ("labels", "max_drop", "class_order", "eval_labels")
        changed = {"scores": self.scores != DEFAULT_SCORES, "proof": self.proof != QUICK}
        return tuple(name for name in names if getattr(self, name) is not None) + tuple(
            name for name, is_asked in changed.items() if is_asked
        )

    def refuse_classes(self, network: str) -> None:
        """`UsageError` for what asks for classes, of a `network` that has none."""
        for name in self.of_classes:
            raise UsageError(f"--{_flag(name)} {getattr(self, name)}: {network} has no classes; leave it out")

    def _check_head(self) -> None:
        if self.head_activation is not None:
            _one_of("head-activation", self.head_activation, ACTIVATIONS)
        if not self.regression:
            return
        for name in self.of_classes:
            raise UsageError(f"--regression and --{_flag(name)}: numbers have no classes; leave one out")

    def _check_max_drop(self) -> None:
        if self.max_drop is None:
            return
        if not 0.0 < self.max_drop <= 100.0:
            raise UsageError(f"--max-drop {self.max_drop:g}: must be above 0 and at most 100 percentage points")
        if self.precision != "int8":
            raise UsageError(f"--max-drop {self.max_drop:g}: only --int8 has layers to leave in float; leave one out")
        if self.qparams is not None:
            raise UsageError(
                f"--max-drop {self.max_drop:g}: the table {self.qparams} decides what is in float; leave one out"
            )


def read_config(path: Path) -> dict[str, Any]:
    """Options of a TOML file by field name; unknown keys and wrong types are `UsageError`."""
    return from_mapping(read_toml(path, f"--config {path}"), f"--config {path}")


def read_toml(path: Path, named: str) -> dict[str, Any]:
    """A TOML file as it is; `named` is what messages call it."""
    try:
        return tomllib.loads(read_untrusted(path, LARGEST_CONFIG).decode())
    except OSError as error:
        raise UsageError(f"{named}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:  # ValueError: no TOML, no UTF-8, or an integer of 4,301 digits
        raise UsageError(f"{named} is not TOML: {first_line(error)}") from error


def from_mapping(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check keys (dashes or underscores) and convert values to the fields' types."""
    known = {f.name: f for f in fields(Options)}
    converted = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            flags = [_flag(each) for each in known]
            hint = did_you_mean(_flag(name), flags) or f"known: {', '.join(flags)}"
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")
        converted[name] = _converted(name, value, str(known[name].type), where)
    return converted


def _converted(name: str, value: Any, annotation: str, where: str) -> Any:  # noqa: ANN401 - TOML values
    """The value as the field's annotation says."""
    kind, *optional = annotation.split(" | ")
    if value is None and optional:
        return None
    converted = _READERS.get(kind, _text)(value)
    if converted is None:
        wanted = _NAMES.get(kind, kind)
        raise UsageError(f"{where}: {_flag(name)} = {excerpt(repr(value))} is not of type {wanted}")
    return converted


def _texts(value: object) -> tuple[str, ...] | None:
    texts = [value] if isinstance(value, str) else value
    sound = isinstance(texts, list | tuple) and texts and all(isinstance(text, str) for text in texts)
    return tuple(texts) if sound else None  # type: ignore[arg-type]


def _colours(value: object) -> tuple[float, ...] | None:
    numbers = [_fraction(number) for number in (value if isinstance(value, list | tuple) else [value])]
    return None if None in numbers else tuple(map(float, numbers))  # type: ignore[arg-type]


def _whole(value: object) -> int | None:
    """A TOML file's integers may have any length; no truth value is a number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER else None


def _fraction(value: object) -> float | None:
    """A whole number will do."""
    return value if isinstance(value, float) else _whole(value)


def _size(value: object) -> Size | None:
    """`PX`, `[PX]` or `[H, W]`."""
    sides = [_whole(side) for side in value] if isinstance(value, list | tuple) else [_whole(value)]
    return None if None in sides or not sides else size_of([side for side in sides if side is not None])


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _path(value: object) -> Path | None:
    return Path(value) if isinstance(value, str | Path) else None


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | Path) else None


_READERS: Mapping[str, Callable[[object], object | None]] = {
    "tuple[str, ...]": _texts,
    "Colours": _colours,
    "Size": _size,
    "bool": _truth,
    "int": _whole,
    "float": _fraction,
    "Path": _path,
}
_NAMES = {"tuple[str, ...]": "list of texts", "Colours": "number or list of numbers", "Size": "whole number or two"}


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"--{name} {value!r}: {one_of(value, choices)}")


def _flag(name: str) -> str:
    return name.replace("_", "-")
