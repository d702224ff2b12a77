"""What `rexnet-gate update` and `rexnet-gate plan` do."""

from __future__ import annotations

import argparse
import os
import subprocess

from rexnet_export.apps.gate.accuracy import plan as accuracy_plan
from rexnet_export.apps.gate.accuracy.evidence import read_evidence
from rexnet_export.apps.gate.accuracy.terminal_tables import plan_table, update_table
from rexnet_export.apps.gate.baseline import update as baseline_update
from rexnet_export.apps.gate.baseline.update import Change
from rexnet_export.apps.gate.run_check import existing
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.json import plain


def plan(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Say what a number of images can decide."""
    found = accuracy_plan.plan(arguments.images, arguments.discordance / 100, arguments.margin / 100)
    if arguments.json:
        terminal.json(plain(found))
    elif not arguments.quiet:
        terminal.out.print(plan_table(found))
    enough = f"{arguments.images:,} images can pass a candidate without any drop in 80 of 100 runs"
    more = f"{counted(found.missing, 'more image')} needed to pass a candidate without any drop in 80 of 100 runs"
    terminal.note(done(more if found.missing else enough))


def update(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Accept an export as the new baseline."""
    change = Change(
        reason=arguments.reason,
        commit=_commit(),
        run=os.environ.get("GITHUB_RUN_ID"),
        release=arguments.release,
        accept_regression=arguments.accept_regression,
    )
    evidence = read_evidence(existing(arguments.candidate))
    targets = tuple(arguments.target or evidence.targets)
    if strangers := [target for target in targets if target not in evidence.targets]:
        raise UsageError(f"--target {strangers[0]}: {evidence.source} has {', '.join(evidence.targets) or 'none'}")
    if not targets:
        raise DataError(f"{evidence.source} has no artifact that was executed; export again where one can be")
    written = baseline_update.update(evidence, arguments.baselines, targets, change)
    if arguments.json:
        terminal.json({"updated": plain(tuple(written))})
    elif not arguments.quiet:
        terminal.out.print(update_table(written))
    changed = sum(one.changed for one in written)
    said = f"{counted(changed, 'baseline')} of {len(written)} written" if changed else "the baselines are these already"
    terminal.note(done(said, f"commit {arguments.baselines}" if changed else "nothing to commit"))


def _commit() -> str | None:
    """The commit of the working directory, where it is in a repository."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return None
    return found.stdout.strip() or None
