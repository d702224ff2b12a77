"""INT8 quantizers on the same networks, calibration images and evaluation images; prints Markdown, writes JSON.

    python benchmarks/quantizers.py [--networks NAME=FILE ...] [--methods NAME ...] [--rivals PYTHON]

Another project's quantizers run in an environment of their own (see rivals-requirements.txt). What was measured of
them is kept below --output and not measured again; our own rows always are, since the code may have changed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import contenders
import networks
import numpy as np
import quantizer_table
from networks import Network
from quantizer_table import Result, Results

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.accuracy.evaluate import Logits, run_sessions
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.errors import ExportError
from rexnet_export.pipeline.core.json import plain, to_text
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.machine.environment import environment, processor
from rexnet_export.pipeline.proof.latency import measure

FLOAT = "float"
DEFAULT_METHODS = (*contenders.RIVALS, *contenders.FILES)


def main() -> int:
    options = parser().parse_args()
    terminal = Terminal("quantizers", sys.stdout, sys.stderr, quiet=False, log=Path(os.devnull))
    try:
        _compare_all(options, terminal)
    except ExportError as error:
        terminal.fail(str(error))
        return error.exit_code
    return 0


def _compare_all(options: argparse.Namespace, terminal: Terminal) -> None:
    results: dict[str, Results] = {}
    for network in networks.prepared(options):
        results[network.name] = found = compare(network, options, terminal)
        print(f"\n{network.name}\n\n{quantizer_table.details(found, contenders.TITLES)}", flush=True)
    summary = quantizer_table.summary(results, contenders.TITLES)
    report = {"environment": environment(), "calibration_images": options.calibration_images, "results": plain(results)}
    (options.output / "quantizers.json").write_text(to_text(report), encoding="utf-8")
    (options.output / "quantizers.md").write_text(f"{summary}\n", encoding="utf-8")
    print(f"\n{summary}\n\n{processor()}, {options.calibration_images} calibration images")


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks.add_flags(flags, images=10_000, output="build/quantizers")
    flags.add_argument("--methods", nargs="+", default=DEFAULT_METHODS, choices=[*contenders.TITLES])
    flags.add_argument("--latency-rounds", type=int, default=0, help="time all methods together; 0: not timed")
    flags.add_argument("--rivals", type=Path, default=Path("build/rivals/bin/python"), metavar="PYTHON")
    return flags


def compare(network: Network, options: argparse.Namespace, progress: Progress) -> Results:
    """Quantize a network in every way asked for; one that fails says so in its row and stops nothing."""
    progress.note(f"{network.name}: {network.inputs.card.name}, {len(network.inputs.evaluation.indices)} images")
    results: dict[str, Measurement[Result]] = {}
    sessions: dict[str, Session] = {}
    for method in options.methods:
        kept = network.folder / f"{method}-{len(network.inputs.evaluation.indices)}.json"
        result = quantizer_table.load(kept, contenders.settings_digest()) if method in contenders.RIVALS else None
        try:
            if result is None or options.latency_rounds:
                quantized = contenders.quantize(method, network, options.rivals)
                sessions[method] = quantized.session
                result = result or _measure(network, quantized, progress)
        except ExportError as error:
            results[method] = NotMeasured(reason=str(error))
            progress.note(f"  {method}: {error}")
            continue
        assert result is not None
        quantizer_table.save(result, contenders.settings_digest(), kept)
        results[method] = result
        progress.note(f"  {method}: {result.accuracy.top1:.2%}, drop {100 * result.accuracy.drop:.2f} points")
    return _timed(network, results, sessions, options.latency_rounds, progress)


def _measure(network: Network, quantized: contenders.Quantized, progress: Progress) -> Result:
    labels = network.inputs.evaluation.labels
    assert labels is not None
    return quantizer_table.measured(
        _logits(network, quantized.session, progress),
        _reference(network, progress),
        labels,
        executed_by=quantized.session.executed_by,
        seconds=quantized.seconds,
        peak_mib=quantized.peak_mib,
        versions=quantized.versions,
    )


def _reference(network: Network, progress: Progress) -> Logits:
    """Logits of the float graph in ONNX Runtime, computed once."""
    kept = network.folder / f"{FLOAT}-{len(network.inputs.evaluation.indices)}.npy"
    if not kept.exists():
        networks.save_array(kept, _logits(network, _open_float(network), progress))
    logits: Logits = np.load(kept)
    return logits


def _logits(network: Network, session: Session, progress: Progress) -> Logits:
    images, preprocess = network.inputs.evaluation, network.inputs.card.preprocess
    return run_sessions({"it": session}, images.source, preprocess, images.indices, progress)["it"]


def _open_float(network: Network) -> Session:
    return networks.open_onnx(network.float_onnx.path, network.inputs.card.preprocess.shape)


def _timed(
    network: Network, results: Results, sessions: dict[str, Session], rounds: int, progress: Progress
) -> Results:
    """Medians of interleaved runs of one image, over that of the float graph in ONNX Runtime."""
    timed = {method: session.run for method, session in sessions.items() if session.timed}
    if not rounds or not timed:
        return results
    times = measure({FLOAT: _open_float(network).run, **timed}, network.pixels[:1], progress, rounds=rounds)
    medians = {name: time.p50_ms for name, time in times.items()}
    return quantizer_table.timed(results, medians, medians[FLOAT])


if __name__ == "__main__":
    sys.exit(main())
