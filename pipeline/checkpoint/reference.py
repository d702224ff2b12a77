"""What people write for a checkpoint: a file, a folder, or a repository of the Hugging Face Hub in any spelling."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.files import MANIFEST_FILE, TRAINING_STATE
from rexnet_export.pipeline.core.text import excerpt

LOCAL, PREFIX = "local-dir:", "hf-hub:"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_SPELLINGS = re.compile(r"(hf[-_]hub:|hf://|https?://(www\.)?(huggingface\.co|hf\.co)/)", re.IGNORECASE)
# Without a prefix only what names a ReXNet is one: `runs/best` is a file that is missing.
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]*rexnet[\w.-]*(@[\w./-]+)?", re.IGNORECASE)
_TIMM_NAME = re.compile(r"rexnetr?_\d{3}\.\w+")  # with its tag, as `timm.create_model` takes it
_WEIGHTS = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".onnx"})


def on_hub(reference: str) -> str | None:
    """The reference as `hf-hub:owner/name` where it means the hub; None where it means this machine."""
    if spelling := _SPELLINGS.match(reference):
        name = reference[spelling.end() :].strip("/")
        return PREFIX + re.sub(r"/(tree|resolve|blob)/([\w.-]+).*", r"@\2", name)
    there = os.path.exists(reference)  # noqa: PTH110 - of any length
    if there or reference.startswith(LOCAL) or Path(reference).suffix in _WEIGHTS:
        return None
    if _REPOSITORY.fullmatch(reference):
        return PREFIX + reference
    return f"{PREFIX}timm/{reference}" if _TIMM_NAME.fullmatch(reference) else None


def export_at(reference: str | None) -> Path | None:
    """The folder of a finished export, where a reference means that; None where it means weights."""
    if reference is None or on_hub(reference) is not None:
        return None
    folder = Path(reference.removeprefix(LOCAL))
    if not os.path.isfile(folder / MANIFEST_FILE):  # noqa: PTH113 - of any length
        return None
    return None if any((folder / name).is_file() for name in WEIGHT_FILES) else folder


def weights_at(reference: str) -> Path:
    """The file that a local reference means: itself, or the weights in a folder."""
    path = Path(reference.removeprefix(LOCAL))
    if not os.path.isdir(path):  # noqa: PTH112 - of any length
        return path
    if export_at(reference):
        raise CheckpointError(
            f"{path} is a finished export, which `rexnet-export --checkpoint` alone takes; name the checkpoint that it "
            "was made from"
        )
    usual = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
    others = sorted(each for each in path.iterdir() if each.suffix in _WEIGHTS and each.is_file())
    # What a training run goes on from is no weights to ship.
    final = [each for each in others if each.name != TRAINING_STATE]
    if len(final) == 1:
        others = final
    if usual or len(others) == 1:
        return (usual or others)[0]
    names = ", ".join(excerpt(each.name) for each in others[:4])
    problem = f"several files of weights ({names})" if others else f"no {' or '.join(WEIGHT_FILES)}"
    raise CheckpointError(f"{path} is a folder with {problem}: name the file")
