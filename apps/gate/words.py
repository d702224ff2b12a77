"""What a gate says of one question: terminal, page, Markdown, JUnit and annotations are written from this record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
MOST_NAMED = 3  # subjects of a reason one by one


@dataclass(frozen=True, kw_only=True)
class Words:
    """The verdict as people read it, what it means for a build, why it is so, and what to do next, if anything.

    `measured` is what was seen here alone, ahead of a reason that others share; `more_images` are the fewest and the
    most that are missing for a decision.
    """

    verdict: str
    status: Status
    reason: str
    next_step: str = ""
    measured: str = ""
    more_images: tuple[int, int] | None = None

    @property
    def sentence(self) -> str:
        """Reason, what is missing, and next step."""
        reason = f"{self.measured}: {self.reason}" if self.measured else self.reason
        return "; ".join(filter(None, (reason, self.more, self.next_step)))

    @property
    def more(self) -> str:
        """How many images are missing, where that is known."""
        if self.more_images is None:
            return ""
        least, most = self.more_images
        count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        return f"about {count} more images are needed"

    @property
    def line(self) -> str:
        """The verdict with all of it: what a command ends with."""
        allowed = ", allowed by --on-inconclusive warn" if self.status == "undecided" else ""
        return f"{self.verdict}{allowed}: {self.sentence}"

    @property
    def style(self) -> str:
        """How a terminal shows the verdict."""
        return STYLES[self.status]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What words are said of: a question about an artifact or a graph."""

    target: str
    check: str


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Words, and all that they are said of."""

    subjects: tuple[Subject, ...]
    words: Words

    @property
    def names(self) -> str:
        """All subjects, as `named` says them."""
        return named(self.subjects)

    @property
    def line(self) -> str:
        """The subjects and what is said of them."""
        return f"{self.names}: {self.words.sentence}"


def named(subjects: Sequence[Subject]) -> str:
    """`ort chain, ort x86 chain`; of many `chain of quantized, ort, tflite; float of ort`."""
    if len(subjects) <= MOST_NAMED:
        return ", ".join(f"{subject.target} {subject.check}" for subject in subjects)
    targets: dict[str, list[str]] = {}
    for subject in subjects:
        targets.setdefault(subject.check, []).append(subject.target)
    return "; ".join(f"{check} of {', '.join(those)}" for check, those in targets.items())


def grouped(said: Iterable[tuple[Subject, Words]]) -> tuple[Reason, ...]:
    """Every reason once, in the order in which they first appear; plain passes need none."""
    found: dict[tuple[str, ...], list[tuple[Subject, Words]]] = {}
    for subject, words in said:
        if words.status != "passed":
            found.setdefault((words.verdict, words.status, words.reason, words.next_step), []).append((subject, words))
    return tuple(
        Reason(subjects=tuple(subject for subject, _ in same), words=_common([words for _, words in same]))
        for same in found.values()
    )


def _common(same: list[Words]) -> Words:
    """What is true of all of them: what was measured where that is equal, and from how many to how many are missing."""
    first, missing = same[0], [each.more_images for each in same if each.more_images is not None]
    return replace(
        first,
        measured=first.measured if all(each.measured == first.measured for each in same) else "",
        more_images=(min(low for low, _ in missing), max(high for _, high in missing)) if missing else None,
    )
