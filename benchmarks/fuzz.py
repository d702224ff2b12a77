"""Change the files of `tests/corpora` for a while, and read them: each reader gives its own error or an answer.

    python benchmarks/fuzz.py [--seconds 60] [--seed 0] [--keep DIR]

Prints a table of reader, cases, failures, refusals, the slowest case and the largest memory of the process. A failure
is an error that the reader does not promise, or more than 5 s; its input is written to `--keep`, to be committed.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from hashlib import sha256
from pathlib import Path

from attacks import mutated  # it puts tests/support on the path
from readers import READERS, Reader

TESTS = Path(__file__).parents[1] / "tests"

LONGEST_S = 5.0


def fuzz(reader: Reader, corpus: list[Path], seconds: float, rng: random.Random, keep: Path | None) -> Counter[str]:
    """How many cases were read, refused and failed, and the milliseconds of the slowest."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seed = rng.choice(corpus)
            content = mutated(seed.read_bytes(), rng)
            (path := Path(folder) / f"case{seed.suffix}").write_bytes(content)
            began, failed = time.monotonic(), False
            try:
                reader.read(path)
            except reader.raises:
                found["refused"] += 1
            except Exception:  # noqa: BLE001 - that is what is looked for
                traceback.print_exc(limit=-3)
                failed = True
            spent = time.monotonic() - began
            found["cases"] += 1
            found["slowest"] = max(found["slowest"], round(1000 * spent))
            if failed or spent > LONGEST_S:
                found["failures"] += 1
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{sha256(content).hexdigest()[:12]}{seed.suffix}").write_bytes(content)
    return found


def main() -> int:
    """Fuzz every reader for the same time; the exit code is 1 where one failed."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=60, help="of all readers together")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--keep", type=Path, metavar="DIR")
    options = p.parse_args()
    warnings.simplefilter("ignore")  # of libraries, on damaged files
    rng, failures = random.Random(options.seed), 0  # noqa: S311 - attacks are repeated, not guessed
    print("| reader | cases | failures | refused | slowest, ms | largest memory |\n|---|---:|---:|---:|---:|---:|")
    for name, reader in READERS.items():
        corpus = sorted((TESTS / "corpora" / name).iterdir())
        found = fuzz(reader, corpus, options.seconds / len(READERS), rng, options.keep and options.keep / name)
        failures += found["failures"]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        counts = f"{found['cases']:,} | {found['failures']} | {found['refused']:,} | {found['slowest']:,}"
        print(f"| {name} | {counts} | {memory:,.0f} MiB |", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
