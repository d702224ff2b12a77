"""`TARGET.json` of a stored baseline (`baseline.schema.json`)."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from pydantic import ConfigDict, Field

from rexnet_export.apps.gate.accuracy.report_part import MOST_CLASSES
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Count, Fraction, Precision, Text


def _absent(value: object) -> bool:
    return value is None


class NetworkJson(JsonRecord):
    """One network; `top1` is rounded so that diffs stay readable, `correct` is exact.

    `n` is how many of the images it was asked about, where not about all.
    """

    file: Text
    sha256: Sha256
    executed_by: Text
    correct: Count
    top1: Fraction
    n: Annotated[AtLeastOne | None, Field(exclude_if=_absent)] = None


class ImagesJson(JsonRecord):
    """What was classified: the digest is of ids and content in order."""

    name: Text
    sha256: Sha256
    n: AtLeastOne


class AnchorsJson(TypedDict):
    """What the current network must not fall behind in the long run."""

    float: NetworkJson
    release: NetworkJson | None


class ContentJson(JsonRecord):
    """Everything a baseline says but its history."""

    schema_version: Literal[1] = 1
    model: Text
    target: Text
    precision: Precision
    processor: str = ""
    images: ImagesJson
    class_names: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_CLASSES)]
    predictions_sha256: Sha256
    """Of the `.npz` beside it."""
    current: NetworkJson
    anchors: AnchorsJson


class ChangeJson(JsonRecord):
    """Why the baseline became what it is; `digest` covers this entry and, through the one before it, all before it."""

    created: Text
    commit: str | None
    run: str | None
    reason: Text
    release: bool
    accepted_regression: bool
    old: NetworkJson | None
    new: NetworkJson
    content_sha256: Sha256
    digest: Sha256


class BaselineJson(ContentJson):
    """What an accepted artifact chose, what it must not fall behind, and why it changed."""

    model_config = ConfigDict(title="Stored baseline of rexnet-gate")

    history: Annotated[tuple[ChangeJson, ...], Field(min_length=1)]
    """Oldest first."""
