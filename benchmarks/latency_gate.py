"""How often the latency gate is wrong: the same artifact against a copy of itself, and against one really slower.

    python benchmarks/latency_gate.py [--repetitions 50] [--slower 20] [--files DIR]

Every repetition starts both processes anew, with a seed of its own, while another process keeps every other core busy.
Prints Markdown, writes all verdicts and ratios as JSON.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rexnet_export.apps.export import command as export
from rexnet_export.apps.gate.latency.decision import Decision, Ratio, Side
from rexnet_export.apps.gate.latency.gate import Request, judged
from rexnet_export.apps.gate.latency.interleave import lengths
from rexnet_export.apps.gate.latency.machine import pinned
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.self_test import enlarge, sample_thumbnails
from rexnet_export.pipeline.core.json import plain, to_text
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.machine.environment import environment, processor
from rexnet_export.targets.isolation.isolated_file import IsolatedFile

VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE", "INVALID")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two files, and how often to compare them."""

    title: str
    base: Path
    candidate: Path
    repetitions: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The deciding run of one repetition, and how many runs there were."""

    decision: Decision
    runs: int


def main() -> int:
    options = parser().parse_args()
    comparisons = list(_comparisons(options))
    outcomes = {}
    with busy_cores() as cores:
        for comparison in comparisons:
            outcomes[comparison.title] = [repeat(comparison, seed) for seed in range(comparison.repetitions)]
            print(f"{comparison.title}: {counts(outcomes[comparison.title])}", file=sys.stderr, flush=True)
    report = {"environment": environment(), "busy_cores": cores, "outcomes": plain(outcomes)}
    (options.files / "latency-gate.json").write_text(to_text(report), encoding="utf-8")
    print(f"{table(outcomes)}\n\n{processor()}, {os.cpu_count()} cores, busy ones: {cores}")
    return 0


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--repetitions", type=int, default=50, help="of equal artifacts")
    flags.add_argument("--slower", type=int, default=20, help="repetitions with a slower one")
    flags.add_argument("--files", type=Path, default=Path("build/latency-gate"), metavar="DIR")
    return flags


def _comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """The bundled network: each INT8 file and its copy, then pairs of which the second is slower."""
    for precision in ("int8", "fp32"):
        folder = options.files / precision
        if not (folder / "report.json").exists():
            flags = ["--target", "tflite", "--target", "ort", "--eval-images", "200", "--output", str(folder)]
            if export.main([f"--{precision}", "--quiet", *flags]):
                raise SystemExit(f"cannot export to {folder}")
    int8, fp32 = (options.files / precision / f"rexnet_100-{precision}" for precision in ("int8", "fp32"))
    for title, suffix in (("TFLite INT8, a copy", ".tflite"), ("ONNX Runtime INT8 (x86), a copy", "-x86.ort")):
        file = Path(f"{int8}{suffix}")
        copy = shutil.copy(file, options.files / f"copy{suffix}")
        yield Comparison(title=title, base=file, candidate=Path(copy), repetitions=options.repetitions)
    for title, base, candidate in (
        ("TFLite, float32 against INT8", f"{int8}.tflite", f"{fp32}.tflite"),
        ("ONNX Runtime, float32 .onnx against INT8 (x86)", f"{int8}-x86.ort", f"{fp32}.onnx"),
        ("ONNX Runtime, ARM preset against x86 preset", f"{int8}-x86.ort", f"{int8}.ort"),
    ):
        yield Comparison(title=title, base=Path(base), candidate=Path(candidate), repetitions=options.slower)


@contextmanager
def busy_cores() -> Iterator[list[int]]:
    """A process that never rests on every core that the gate does not take for itself."""
    with pinned(1) as taken:
        pass
    free = sorted(os.sched_getaffinity(0) - set(() if isinstance(taken, NotMeasured) else taken))
    spin = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    with ExitStack() as running:
        for core in free:
            process = running.enter_context(subprocess.Popen([sys.executable, "-c", spin, str(core)]))
            running.callback(process.kill)
        yield free


def repeat(comparison: Comparison, seed: int) -> Outcome:
    """The gate's timing at its defaults, with processes of its own."""
    request = Request(base=comparison.base, candidate=comparison.candidate, seed=seed)
    with ExitStack() as opened:
        files: dict[Side, IsolatedFile] = {}
        with pinned(request.threads):
            files["base"] = opened.enter_context(IsolatedFile(request.base, threads=request.threads))
            files["candidate"] = opened.enter_context(IsolatedFile(request.candidate, threads=request.threads))
        size = card_from(files["base"].inspect().metadata).preprocess.shape
        image = enlarge(sample_thumbnails()[:1], size)
        runs = judged(request, files, image, lengths(files, image, request.blocks, Silent()), Silent())
    return Outcome(decision=runs[-1].decision, runs=len(runs))


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    found = Counter(outcome.decision.verdict for outcome in outcomes)
    return {verdict: found[verdict] for verdict in VERDICTS}


def table(outcomes: dict[str, list[Outcome]]) -> str:
    """Candidate and base, verdicts, and the ratios that were decided on."""
    rows = [["candidate, base", "n", *VERDICTS, "second runs", "ratio: median", "smallest", "largest"]]
    for title, found in outcomes.items():
        ratios = [o.decision.ratio.value for o in found if isinstance(o.decision.ratio, Ratio)]
        rows.append(
            [
                title,
                str(len(found)),
                *(str(count) for count in counts(found).values()),
                str(sum(outcome.runs > 1 for outcome in found)),
                *(f"{value:.3f}" for value in (median(ratios), min(ratios), max(ratios))),
            ]
        )
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["--"] * len(head), *body))


if __name__ == "__main__":
    sys.exit(main())
