"""What others' files say of preprocessing and labels: timm's `args`, and a `config.json` of timm's or transformers'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rexnet_export.pipeline.checkpoint.metadata import Stated, StatedPreprocess, state_preprocess
from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError
from rexnet_export.pipeline.core.strict_json import read_json
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.pickles.values import NumpyArray, Record

CONFIG_FILE = "config.json"
LARGEST_CONFIG = 16 << 20
# What timm's scripts fill in where a run set nothing, of every ReXNet; the two that were fine-tuned crop less.
_TIMM_DEFAULTS = {
    "size": 224,
    "crop_ratio": 0.875,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
_TIMM_CROPS = {"rexnetr_200": 0.95, "rexnetr_300": 0.95}
_TIMM_KEYS = {
    "crop_ratio": "crop_pct",
    "crop_mode": "crop_mode",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
}
_LABEL_KEYS = (
    "class_names",
    "classes",
    "label_names",
    "labels",
    "idx_to_class",
    "id2label",
    "class_to_idx",
    "label2id",
)
_LABEL_PLACES = ("args", "hyper_parameters", "config", "cfg", "meta")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one source says; `options` are what its network was built with, by timm's names."""

    stated: Stated = field(default_factory=Stated)
    options: Mapping[str, object] = field(default_factory=dict)


def of_training(content: object, where: str) -> Settings:
    """What a training checkpoint's dictionaries say: timm's `args`, and class names under their usual keys.

    `None` among timm's options means that its scripts took the network's own default, which is a statement too.
    """
    if not isinstance(content, Mapping):
        return Settings()
    args = _values(content.get("args"))
    places = [content, *(_values(content.get(place)) for place in _LABEL_PLACES)]
    labels = next((names for place in places if (names := label_names(place)) is not None), None)
    preprocess = StatedPreprocess()
    if "crop_pct" in args and "interpolation" in args:
        architecture = str(args.get("model") or content.get("arch"))
        if architecture.startswith("rexnet"):
            defaults = _TIMM_DEFAULTS | {"crop_ratio": _TIMM_CROPS.get(architecture, _TIMM_DEFAULTS["crop_ratio"])}
            preprocess = state_preprocess(defaults, "args", where)
        preprocess = state_preprocess(_of_timm(args), "args", where).over(preprocess)
    return Settings(
        stated=Stated(preprocess=preprocess, labels=labels, labels_source="checkpoint" if labels else None),
        options={**_values(content.get("hyper_parameters")), **args},
    )


def config_beside(path: Path) -> Settings:
    """What a `config.json` in a checkpoint's folder says if it is a ReXNet's; other programs' say nothing."""
    config = path.parent / CONFIG_FILE
    if not config.is_file():
        return Settings()
    try:
        content = _read_object(config)
    except CheckpointError:
        return Settings()
    return of_config(content, str(config)) if str(content.get("architecture")).startswith("rexnet") else Settings()


def read_config(path: Path) -> Settings:
    """Read a `config.json` that is known to belong to a checkpoint; `CheckpointError` says why it is none."""
    return of_config(_read_object(path), str(path))


def _read_object(path: Path) -> dict[str, object]:
    try:
        content = read_json(path, LARGEST_CONFIG)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ConversionError as error:
        raise CheckpointError(f"{path} is not JSON: {excerpt(str(error))}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return content


def of_config(content: Mapping[str, object], where: str) -> Settings:
    """What a `config.json` says; timm nests `pretrained_cfg`, older files and some tools hold its keys at the top."""
    cfg = {**content, **_values(content.get("pretrained_cfg"))}
    for key in ("label_names", "labels"):
        if not isinstance(cfg.get(key), Mapping | list | None):
            raise CheckpointError(f"{key} of {where} are not a list of strings")
    labels = label_names(cfg)
    return Settings(
        stated=Stated(
            preprocess=state_preprocess(_of_timm(cfg), CONFIG_FILE, where),
            labels=labels,
            labels_source=CONFIG_FILE if labels else None,
        ),
        options=content,
    )


def _values(value: object) -> Mapping[str, object]:
    """A dictionary, or a record such as an `argparse.Namespace`, as a mapping; whatever else is none."""
    inside = value.fields if isinstance(value, Record) else value if isinstance(value, Mapping) else {}
    return {key: each for key, each in inside.items() if isinstance(key, str)}


def _of_timm(values: Mapping[str, object]) -> dict[str, object]:
    """timm's names as ours; what is unset (`None`, or an empty text or list) says nothing."""
    given = {ours: values.get(theirs) for ours, theirs in _TIMM_KEYS.items()}
    size = values.get("img_size")
    match values.get("input_size"):
        case [int(), height, width]:
            size = [height, width]
        case None | [] | ():
            pass
        case other:
            size = other
    return {key: value for key, value in {**given, "size": size}.items() if value not in (None, "", [], ())}


def label_names(values: Mapping[str, object]) -> tuple[str, ...] | None:
    """Class names by their usual keys: a list, `{index: name}` or `{name: index}`; None where no class has one."""
    for key in _LABEL_KEYS:
        value = values.get(key)
        names = _names(value.words if isinstance(value, NumpyArray) else value)
        if names is not None:
            # transformers numbers what it was told no names of
            return None if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names
    return None


def _names(value: object) -> tuple[str, ...] | None:
    if isinstance(value, Mapping):
        pairs = list(value.items())
        if all(isinstance(name, str) and _is_index(index) for name, index in pairs):
            pairs = [(index, name) for name, index in pairs]
        by_index = {str(index): name for index, name in pairs if _is_index(index) or isinstance(index, str)}
        ids = [str(index) for index in range(len(pairs))]
        # With gaps in the numbers there is no name for every class.
        value = [by_index[index] for index in ids] if set(ids) == set(by_index) else None
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        return None
    return tuple(value)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
