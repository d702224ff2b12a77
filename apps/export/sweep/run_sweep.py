"""What `rexnet-export sweep` does, and prints of it."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from rexnet_export.apps.export.sweep.collect import collected
from rexnet_export.apps.export.sweep.page import page
from rexnet_export.apps.export.sweep.plan import AXES, SHARED, Trial
from rexnet_export.apps.export.sweep.set_aside import SET_ASIDE, set_aside
from rexnet_export.apps.export.sweep.sweep_json import SWEEP_FILE, TIMINGS_FILE, SweepJson, TimingsJson
from rexnet_export.apps.export.sweep.tables import csv_table, notices, table, untimed
from rexnet_export.apps.export.sweep.timing import timed
from rexnet_export.apps.export.sweep.trial import (
    Exported,
    Outcome,
    from_line,
    is_kept,
    own_file,
    run_away,
    run_trial,
    to_line,
    unpacked,
)
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted
from rexnet_export.apps.shared.text import done as done_line
from rexnet_export.apps.shared.trials.journal import Journal
from rexnet_export.apps.shared.trials.outcome import Failed, OutOfDisk
from rexnet_export.apps.shared.trials.processes import ProcessWorkers, affordable_jobs, in_processes
from rexnet_export.apps.shared.trials.ray_cluster import RayCluster, RayWorkers
from rexnet_export.apps.shared.trials.telling import Doing
from rexnet_export.pipeline.core.errors import DiskFull
from rexnet_export.pipeline.core.files import writing
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.progress import Bar
from rexnet_export.pipeline.core.records import file_sha256, write_whole
from rexnet_export.pipeline.core.text import harmless
from rexnet_export.pipeline.export.recorded import recorded
from rexnet_export.targets import TARGETS

MEMORY_OF_A_TRIAL = 3 * 2**30  # bytes; 2.6 GiB were measured at 224 px with `--effort high`
PRELOAD = (run_trial.__module__, "rexnet_export.targets.tflite.target", "rexnet_export.targets.ort.target")
GPU = "gpu"

type Ended = Generator[tuple[Trial, Exported | Failed]]


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run what is left of the sweep, put all trials side by side; the exit code of the first that failed, or 0."""
    output: Path = arguments.output
    trials: tuple[Trial, ...] = arguments.trials
    for name in dict.fromkeys(trial.target for trial in trials):
        TARGETS[name].require()
    cluster = None if arguments.ray is None else RayCluster(arguments.ray)
    journal = Journal(output, "sweep", _common(trials[0]), from_line, to_line, trials=_identities(trials))
    done: dict[str, Exported | Failed] = {}
    if arguments.resume:
        done |= _kept(journal, trials, output, terminal)
    else:
        journal.begin()
    left = [trial for trial in trials if trial.name not in done]
    jobs = arguments.jobs or affordable_jobs(MEMORY_OF_A_TRIAL)
    try:
        with (
            terminal.stage("exporting", len(trials), "trials") as bar,
            closing(_here(left, jobs, bar) if cluster is None else _on(cluster, left)) as ended,
        ):
            bar.advance(len(done))
            for trial, result in ended:
                if isinstance(result, OutOfDisk):
                    raise DiskFull(f"{trial.name}: {result.reason}; the sweep ended there, go on with --resume")
                journal.add(Outcome(name=trial.name, result=result))
                done[trial.name] = result
                bar.advance(1, trial.name)
                if isinstance(result, Failed):
                    terminal.note(f"{trial.name}: {result.reason}")
    finally:
        shutil.rmtree(output / SHARED, ignore_errors=True)
    sweep = collected(trials, done, output)
    timings = timed(sweep, output, terminal)
    _write(output, sweep, timings)
    _show(arguments, sweep, timings, terminal)
    for notice in (*notices(sweep), *untimed(timings)):
        terminal.note(notice)
    if not (code := _told(sweep, terminal)):
        made = f"{counted(len(trials), 'trial')} side by side in {output}/, in sweep.html"
        terminal.note(done_line(made, f"choose: rexnet-export sweep pick {output} --target TARGET --max-drop POINTS"))
    return code


def _kept(
    journal: Journal[Outcome], trials: Sequence[Trial], output: Path, terminal: Terminal
) -> Mapping[str, Exported]:
    """What need not run again. What failed is tried again, since its cause may be mended; so is what was altered."""
    kept = journal.resume()
    if away := set_aside(output, [trial.name for trial in trials], kept.trials):
        terminal.note(f"no longer asked for, kept in {output / SET_ASIDE}/: {', '.join(away)}")
    results = {outcome.name: outcome.result for outcome in kept.results}
    known = ((trial, results.get(trial.name)) for trial in trials)
    return {trial.name: result for trial, result in known if isinstance(result, Exported) and is_kept(trial, result)}


def _told(sweep: SweepJson, terminal: Terminal) -> int:
    """Say that trials failed, also where nothing else is said; the exit code of the first of them, or 0."""
    failed = [(trial.name, trial.failure) for trial in sweep.trials if trial.failure is not None]
    if not failed:
        return 0
    name, first = failed[0]
    terminal.fail(
        f"{len(failed)} of {len(sweep.trials)} trials failed, the first of them {name}: {first.reason}; "
        "go on with --resume when that is mended"
    )
    return first.exit_code


def _common(trial: Trial) -> Mapping[str, object]:
    """What a resumed sweep must have in common with the killed one: the options that all trials have."""
    return {name: value for name, value in recorded(trial.options).items() if name not in AXES.values()}


def _identities(trials: Sequence[Trial]) -> Mapping[str, object]:
    """By name, what a trial is known by besides the common options; its checkpoint by its digest."""
    checkpoints = {trial.options.checkpoint for trial in trials}
    digests = {checkpoint: _digest(checkpoint) for checkpoint in checkpoints}
    return {
        trial.name: {
            **{name: value for name, value in recorded(trial.options).items() if name in AXES.values()},
            "effort": trial.effort,  # what is not quantized is the same for every effort
            "checkpoint_sha256": digests[trial.options.checkpoint],
        }
        for trial in trials
    }


def _digest(checkpoint: str | None) -> str | None:
    """Of a file; a folder or a repository of the hub is known by its name alone."""
    return file_sha256(Path(checkpoint)) if checkpoint is not None and Path(checkpoint).is_file() else None


def _here(trials: Sequence[Trial], jobs: int, bar: Bar) -> Ended:
    """Run the trials in processes; where there are more jobs than trials, each trial has its share of them.

    The bar shows the stage that a trial has come to.
    """
    workers = ProcessWorkers(jobs // max(1, len(trials)), PRELOAD)

    def heard(trial: Trial, doing: Doing) -> None:
        bar.advance(0, f"{trial.name}: {doing.stage}")

    return in_processes(partial(run_trial, workers=workers), trials, jobs, PRELOAD, heard)


def _on(cluster: RayCluster, trials: Sequence[Trial]) -> Ended:
    """Run the trials on a cluster, and bring their folders here."""
    run = partial(run_away, workers=RayWorkers())
    ended = cluster.each(run, trials, wants_gpu=lambda trial: trial.target == GPU, carried=own_file)
    with closing(ended):
        for trial, result in ended:
            yield trial, result if isinstance(result, Failed) else unpacked(trial, result)


def _write(output: Path, sweep: SweepJson, timings: TimingsJson) -> None:
    contents = {
        SWEEP_FILE: to_text(sweep.to_json()),
        TIMINGS_FILE: to_text(timings.to_json()),
        "sweep.csv": harmless(csv_table(sweep)),
        "sweep.html": page(sweep, timings),
    }
    with writing(output):
        for name, text in contents.items():
            write_whole(output / name, text.encode())


def _show(arguments: argparse.Namespace, sweep: SweepJson, timings: TimingsJson, terminal: Terminal) -> None:
    if arguments.json:
        terminal.json(sweep.to_json())
    elif not arguments.quiet:
        terminal.out.print(table(sweep, timings))
        terminal.out.print(f"{arguments.output}/  sweep.html, sweep.csv, sweep.json, timings.json", soft_wrap=True)
