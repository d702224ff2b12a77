"""Processor seconds of each test, which hold on a busy machine too: a plugin of pytest, and a table of its files.

    PYTHONPATH=benchmarks SUITE_TIMES=after.tsv python -P -m pytest -p suite_times
    python benchmarks/suite_times.py before.tsv after.tsv [--most 30]

Children that ended are counted. What a fixture takes is counted at the test that was the first to ask for it.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest


def spent() -> float:
    """Processor seconds of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what a test took; a line of a file is written at once, so that processes may share it."""
    before = spent()
    result = yield
    with Path(os.environ["SUITE_TIMES"]).open("a", encoding="utf-8") as file:
        file.write(f"{spent() - before:.2f}\t{item.nodeid}\n")
    return result


def read(path: Path) -> Counter[str]:
    """Seconds by test."""
    rows = (line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return Counter({name: float(seconds) for seconds, name in rows})


def table(before: Counter[str], after: Counter[str], most: int) -> str:
    """The slowest of both, side by side; what the other run has not is a dash."""
    lines = ["| before, s | after, s | test |", "| --: | --: | -- |"]
    slowest = {**dict(before.most_common(most)), **dict(after.most_common(most))}
    for name in sorted(slowest, key=lambda name: -max(before[name], after[name])):
        cells = (f"{found[name]:.1f}" if name in found else "-" for found in (before, after))
        lines.append(f"| {' | '.join(cells)} | `{name.removeprefix('tests/')}` |")
    return "\n".join([*lines, f"| {before.total():.0f} | {after.total():.0f} | all {len(before)}, {len(after)} |"])


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("before", type=Path)
    flags.add_argument("after", type=Path)
    flags.add_argument("--most", type=int, default=30, help="how many of each are shown (default: %(default)s)")
    options = flags.parse_args()
    print(table(read(options.before), read(options.after), options.most))


if __name__ == "__main__":
    main()
