"""Which phase begins and what it waits for, told to whoever started the runner."""

from __future__ import annotations


def say(phase: str) -> None:
    """Tell whoever started the runner which phase begins."""
    print(f"phase: {phase}", flush=True)


def note(text: str) -> None:
    """Tell them a line that a person should read."""
    print(f"note: {text}", flush=True)
