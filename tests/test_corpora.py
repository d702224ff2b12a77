"""Every file of `tests/corpora`, and what a fuzzer makes of it in a moment, is read or refused as its reader promises.

`benchmarks/fuzz.py` does the same for as long as one likes, and keeps what it finds; that is committed here.
"""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from attacks import mutated
from readers import READERS

CORPORA = Path(__file__).parent / "corpora"
FILES = sorted(path.relative_to(CORPORA).as_posix() for path in CORPORA.rglob("*") if path.is_file())
# What these are cut down from is too large to be committed, so they are refused, whole as they are.
CUT_DOWN = {"checkpoint"}
MUTANTS = 20


def test_every_reader_has_good_files() -> None:
    assert {file.split("/")[0] for file in FILES} == READERS.keys()
    assert sum((CORPORA / file).stat().st_size for file in FILES) < 2**17


@pytest.mark.parametrize("file", FILES)
@pytest.mark.filterwarnings("ignore")
def test_a_file_and_its_mutants_are_read_or_refused(file: str, tmp_path: Path) -> None:
    kind, name = file.split("/")
    reader, content = READERS[kind], (CORPORA / file).read_bytes()
    if name.startswith(("good", "lines", "numbered", "packed", "small")) and kind not in CUT_DOWN:
        reader.read(CORPORA / file)
    rng = random.Random(file)  # noqa: S311 - mutants are repeated, not guessed
    for _ in range(MUTANTS):
        (path := tmp_path / name).write_bytes(mutated(content, rng))
        with suppress(*reader.raises):
            reader.read(path)
