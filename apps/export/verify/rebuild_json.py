"""What `rexnet-export verify --rebuild --json` prints (`rebuild.schema.json`)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from rexnet_export.pipeline.core.json_record import JsonRecord
from rexnet_export.pipeline.core.records import Text
from rexnet_export.pipeline.finished.rebuild import Rebuilt
from rexnet_export.pipeline.machine.environment import Environment, environment


class RebuiltJson(JsonRecord):
    """An export that was made again with its recorded options, file by file."""

    model_config = ConfigDict(title="What `rexnet-export verify --rebuild --json` prints")

    schema_version: Literal[1] = 1
    rebuilt: bool
    """Whether every file that was compared is the same, byte by byte."""
    same: tuple[Text, ...]
    differing: tuple[Text, ...]
    not_compared: tuple[Text, ...]
    """Records that hold times, of an export without SOURCE_DATE_EPOCH."""
    reasons: tuple[Text, ...]
    """Options, tools and inputs that are not what they were."""
    environment: Environment


def rebuilt_json(found: Rebuilt) -> RebuiltJson:
    """All that was found."""
    return RebuiltJson(
        rebuilt=not found.differing,
        same=found.same,
        differing=found.differing,
        not_compared=found.not_compared,
        reasons=found.reasons,
        environment=environment(),
    )
