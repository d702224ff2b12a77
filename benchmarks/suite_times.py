"""Processor seconds of each test, which hold on a busy machine too: a plugin of pytest, and a table of its files.

    PYTHONPATH=benchmarks SUITE_TIMES=after.tsv python -P -m pytest -p suite_times
    python benchmarks/suite_times.py before.tsv after.tsv [--most 30] [--files]

Children are counted: those that ended, and on Linux those that live on, such as the fork server that opens files. What
a fixture takes is counted at the test that was the first to ask for it.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")


def spent() -> float:
    """Processor seconds of this process and of its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system + living(os.getpid())


def living(process: int) -> float:
    """Of children that have not ended, with what they waited for themselves."""
    found = 0.0
    for listed in PROC.glob(f"{process}/task/*/children"):
        children: list[str] = []
        with suppress(OSError):  # the thread ended meanwhile
            children = listed.read_text(encoding="ascii").split()
        for child in children:
            with suppress(OSError):  # it ended meanwhile
                fields = (PROC / child / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                found += sum(map(int, fields[11:15])) * TICK + living(int(child))
    return found


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what a test took; a line of a file is written at once, so that processes may share it."""
    before = spent()
    result = yield
    with Path(os.environ["SUITE_TIMES"]).open("a", encoding="utf-8") as file:
        # A living child's own children are forgotten when it ends without having waited for them, as a browser's do.
        file.write(f"{max(0.0, spent() - before):.2f}\t{item.nodeid}\n")
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


def by_file(tests: Counter[str]) -> Counter[str]:
    """Seconds by file."""
    found: Counter[str] = Counter()
    for name, seconds in tests.items():
        found[name.partition("::")[0]] += seconds
    return found


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("before", type=Path)
    flags.add_argument("after", type=Path)
    flags.add_argument("--most", type=int, default=30, help="how many of each are shown (default: %(default)s)")
    flags.add_argument("--files", action="store_true", help="show files instead of tests")
    options = flags.parse_args()
    runs = (read(options.before), read(options.after))
    print(table(*(map(by_file, runs) if options.files else runs), options.most))


if __name__ == "__main__":
    main()
