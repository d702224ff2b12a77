"""Which artifact of a bundle runs here, with which runtime and how."""

from __future__ import annotations

import argparse
import platform
from typing import Any, NamedTuple

from rexnet_export.apps.bench.runner.archive import PLAN_FILE, Archive
from rexnet_export.apps.bench.runner.failure import DAMAGED, NO_RUNTIME, USAGE, RunnerError
from rexnet_export.apps.bench.runner.runtimes import SUFFIXES, Runtime, find_runtime


class Job(NamedTuple):
    """An artifact, the runtime that will run it, and the plan with what the command line changed."""

    artifact: dict[str, Any]
    runtime: Runtime
    plan: dict[str, Any]

    @property
    def file(self) -> str:
        """The artifact's name in the bundle."""
        return str(self.artifact["file"])


def chosen(archive: Archive, options: argparse.Namespace) -> Job:
    """The artifact that was asked for, or the first with a runtime here; `RunnerError` says what is missing."""
    plan = adjusted(archive.read_object(PLAN_FILE), options)
    artifacts = plan["artifacts"]
    if options.artifact is not None:
        named = [entry for entry in artifacts if options.artifact in (entry["file"], entry["file"].split("/")[-1])]
        if not named:
            names = ", ".join(entry["file"].split("/")[-1] for entry in artifacts)
            raise RunnerError(f"no artifact {options.artifact!r} in the bundle; it has {names}", USAGE)
        return Job(named[0], find_runtime(suffix(named[0]), options.runtime), plan)
    reasons: list[str] = []
    for entry in artifacts:
        if options.runtime is not None and options.runtime not in SUFFIXES.get(suffix(entry), ()):
            continue
        if entry["machines"] and platform.machine() not in entry["machines"]:
            continue
        try:
            return Job(entry, find_runtime(suffix(entry), options.runtime), plan)
        except RunnerError as error:
            if str(error) not in reasons:
                reasons.append(str(error))
    raise RunnerError("; ".join(reasons) or "no artifact of the bundle is for this device", NO_RUNTIME)


def adjusted(plan: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The plan with the command line's numbers; every number is one that can be run."""
    try:
        latency, idle, dataset = dict(plan["latency"]), dict(plan["idle"]), dict(plan["dataset"])
        wanted = {
            "threads": plan["threads"] if options.threads is None else options.threads,
            "images": dataset["n"] if options.images is None else min(options.images, dataset["n"]),
            "pairs": latency["pairs"] if options.pairs is None else options.pairs,
            "block_runs": latency["block_runs"] if options.block_runs is None else options.block_runs,
        }
        _, _ = latency["warm_loads"], latency["page_kernel"]  # a bundle of an older version has neither
        latency["budget_s"] = latency["budget_s"] if options.budget is None else options.budget
        idle["max_wait_s"] = idle["max_wait_s"] if options.idle_wait is None else options.idle_wait
    except (KeyError, TypeError) as error:
        raise RunnerError(f"{PLAN_FILE} lacks {error}; make the bundle again", DAMAGED) from error
    wrong = [f"{name} {value}" for name, value in wanted.items() if value < 1]
    if wrong:
        raise RunnerError(f"{wrong[0]} is not 1 or more; name a larger number", USAGE)
    latency.update(pairs=wanted["pairs"], block_runs=wanted["block_runs"])
    dataset["n"] = wanted["images"]
    return {**plan, "threads": wanted["threads"], "latency": latency, "idle": idle, "dataset": dataset}


def suffix(entry: dict[str, Any]) -> str:
    """How the artifact's name ends."""
    return "." + str(entry["file"]).rpartition(".")[2]
