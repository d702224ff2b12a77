"""Processor time until a command has said its help, its version, or that a flag is wrong.

    python benchmarks/startup.py [--runs 7]

Prints a Markdown table: user and system seconds of a whole process, the median and the largest of the runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rexnet_export.pipeline.machine.environment import processor

COMMANDS = {
    "rexnet-export": ("", "verify", "predict", "backbone"),
    "rexnet-gate": ("", "check", "plan", "update", "latency"),
    "rexnet-bench": ("", "bundle", "run", "serve", "devices", "compare"),
    "rexnet-train": ("",),
    "rexnet-study": ("", "table", "rank", "control", "search"),
}


def seconds(command: list[str], code: int) -> float:
    """User and system time of one process, which has to end with `code`."""
    before = os.times()
    done = subprocess.run(command, capture_output=True, check=False)
    after = os.times()
    if done.returncode != code:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()}")
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=7, help="of each (default: %(default)s)")
    runs = flags.parse_args().runs
    print(f"{processor()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}, {runs} runs of each\n")
    print("| command | asked | median, s | largest, s |\n| -- | -- | --: | --: |")
    for program, subcommands in COMMANDS.items():
        script = str(Path(sys.executable).with_name(program))
        for subcommand in subcommands:
            asked = {"--help": 0, "--no-such-flag": 2} | ({} if subcommand else {"--version": 0})
            for flag, code in asked.items():
                found = [seconds([script, *filter(None, [subcommand]), flag], code) for _ in range(runs)]
                print(f"| `{program} {subcommand}` | `{flag}` | {statistics.median(found):.2f} | {max(found):.2f} |")


if __name__ == "__main__":
    main()
