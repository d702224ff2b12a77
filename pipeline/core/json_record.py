"""Records that leave the process: each is one class, and that class reads, writes and describes its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.json import plain
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.core.text import excerpt

type Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class JsonRecord(BaseModel):
    """Base of all such records. Dataclasses inside them are read by the same rules.

    A value has its type and nothing near it, there are no other keys, and numbers are finite.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read JSON that may come from anywhere; `ConversionError` names the first wrong value and where it is."""
        return cls._checked(text)[1]

    @classmethod
    def checked(cls, text: str | bytes) -> dict[str, Any]:
        """The same, but the JSON as it was written, where 1 stays 1 though the record would have 1.0."""
        return cls._checked(text)[0]

    @classmethod
    def _checked(cls, text: str | bytes) -> tuple[dict[str, Any], Self]:
        content: Any = strict_loads(text)
        try:
            return content, cls.model_validate_json(text)
        except ValidationError as error:
            raise ConversionError(_sentence(content, error.errors()[0])) from error

    def to_json(self) -> dict[str, Any]:
        """The JSON object; `NotMeasured` becomes `{"not_measured": reason}`."""
        found: dict[str, Any] = plain(self.model_dump(by_alias=True, warnings="none"))
        return found


def _sentence(content: object, error: ErrorDetails) -> str:
    *parent, key = error["loc"] or ("",)
    match error["type"]:
        case "missing":
            return f"{_place(content, parent)} " + ("is too short" if isinstance(key, int) else f"lacks {key}")
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{_place(content, parent)} has unknown {excerpt(str(key))}"
        case "value_error":
            return f"{_place(content, error['loc'])} {error['ctx']['error']}"
        case "json_invalid":
            return error["msg"]
    problem, value = error["msg"], error["input"]
    shown = (
        "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else excerpt(repr(value), 60)
    )
    return f"{_place(content, error['loc'])} holds {shown}: {problem[:1].lower()}{problem[1:]}"


def _place(content: object, steps: Sequence[str | int]) -> str:
    """A path such as `tensors.stem.params.scale[0]`.

    Among its steps pydantic names the members of unions, too: what is no key there, or is the value that tells the
    member, such as a `decision`.
    """
    place, member = "", None
    for step in steps:
        if isinstance(step, int):
            if isinstance(content, list) and step < len(content):
                content, place = content[step], f"{place}[{step}]"
        elif isinstance(content, dict) and content is not member and step in content.values():
            member = content
        elif isinstance(content, dict) and step in content:
            content, place = content[step], f"{place}.{excerpt(step)}"
    return place.removeprefix(".") or "it"
