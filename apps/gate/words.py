"""What a gate says of one question: terminal, page, Markdown, JUnit and annotations are written from this record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# noted: passed, but worth reading. error: there is no answer, and that fails the build; undecided: it does not.
# skipped: does not apply here.
type Status = Literal["passed", "noted", "failed", "error", "undecided", "skipped"]
type OnInconclusive = Literal["fail", "warn"]
UNDECIDED: Mapping[OnInconclusive, Status] = {"fail": "error", "warn": "undecided"}
STYLES: Mapping[Status, str] = {
    "passed": "green",
    "noted": "green",
    "failed": "bold red",
    "error": "yellow",
    "undecided": "yellow",
    "skipped": "dim",
}


@dataclass(frozen=True, kw_only=True)
class Words:
    """The verdict as people read it, what it means for a build, why it is so, and what to do next, if anything."""

    verdict: str
    status: Status
    reason: str
    next_step: str = ""

    @property
    def sentence(self) -> str:
        """Reason and next step."""
        return f"{self.reason}; {self.next_step}" if self.next_step else self.reason

    @property
    def line(self) -> str:
        """The verdict with all of it: what a command ends with."""
        allowed = ", allowed by --on-inconclusive warn" if self.status == "undecided" else ""
        return f"{self.verdict}{allowed}: {self.sentence}"

    @property
    def style(self) -> str:
        """How a terminal shows the verdict."""
        return STYLES[self.status]
