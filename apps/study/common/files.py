"""Writing what a study found: Markdown tables, and files that are whole or absent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import try_file, writing_file
from rexnet_export.pipeline.core.records import write_whole
from rexnet_export.pipeline.core.text import harmless


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are set to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def check_page(page: Path) -> None:
    """Refuse, before minutes of work, a page that could not be written, or that its own table would replace."""
    if page.suffix != ".md":
        raise UsageError(f"--write {page}: must end in .md; the same name with .csv and .svg is written beside it")
    for path in (page, page.with_suffix(".csv"), page.with_suffix(".svg")):
        with writing_file(str(path)):
            try_file(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, harmless(text).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with writing_file(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
