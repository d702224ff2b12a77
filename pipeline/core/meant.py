"""What was probably meant by a word that nobody knows, and the words of a list such as `SM8650,SM8750`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from rexnet_export.pipeline.core.errors import UsageError

OTHER_SEPARATORS = re.compile(r"[\s,;|+]+")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like it, whatever its case; None where none is."""
    names = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), names, n=1)
    return names[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The question, or nothing."""
    found = nearest(word, known)
    return "" if found is None else f"did you mean {found}?"


def one_of(word: str, known: Iterable[str]) -> str:
    """What to write in place of a word: the nearest, and what else there is."""
    names = tuple(known)
    return "; ".join(filter(None, (f"choose one of {', '.join(names)}", did_you_mean(word, names))))


def listed(text: str, flag: str, known: Iterable[str], example: str) -> tuple[str, ...]:
    """The words of a list with a comma between each two, as they are; `UsageError` where one is missing.

    Names that are all `known` with anything else between them are refused with the list that was meant.
    """
    words = tuple(part.strip() for part in text.split(","))
    names = {name.lower() for name in known}
    meant = [word for word in OTHER_SEPARATORS.split(text) if word]
    if all(words) and (len(meant) == len(words) or not {word.lower() for word in meant} <= names):
        return words
    what = "" if all(words) else " an entry is missing;"
    cure = f"did you mean {','.join(meant)}?" if meant else f"write entries with a comma between them: {example}"
    raise UsageError(f"{flag} {text!r}:{what} {cure}")
