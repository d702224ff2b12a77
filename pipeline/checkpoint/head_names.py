"""What heads are called, by where they stand in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rexnet_export.pipeline.model.head import OTHER_SUFFIX, OTHERS

LONGEST_NAME = 40


def head_names(paths: Sequence[str]) -> list[str]:
    """Short names of heads: their paths without what all share, as identifiers without double underscores."""
    if any(path.startswith(OTHERS) for path in paths):
        return [_identifier(path.removeprefix(OTHERS).removesuffix(OTHER_SUFFIX)) for path in paths]
    parts = [path.strip(".").split(".") for path in paths]
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[0] for each in parts}) == 1:
        parts = [each[1:] for each in parts]
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    names = [_identifier("_".join(each)) for each in parts]
    return [name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)]


def _identifier(text: str) -> str:
    name = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9]", "_", text))[:LONGEST_NAME].strip("_")
    return name if name[:1].isalpha() else f"head_{name}".strip("_")
