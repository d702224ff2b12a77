"""Which phase begins, told to whoever started the runner."""

from __future__ import annotations


def say(phase: str) -> None:
    """Tell whoever started the runner which phase begins."""
    print(f"phase: {phase}", flush=True)
