"""What `rexnet-export predict` does, and prints of it."""

from __future__ import annotations

import argparse

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.artifact.export_folder import artifact_at
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.json import plain
from rexnet_export.pipeline.core.text import printable
from rexnet_export.pipeline.proof.predict import Prediction, Unread, predict
from rexnet_export.targets import SUFFIXES
from rexnet_export.targets.isolation.isolated_file import IsolatedFile


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Ask the file, print a line a photo, and say which have no answer; the exit code says that too."""
    path = artifact_at(arguments.file, arguments.target, SUFFIXES)
    with IsolatedFile(path) as file:
        executed_by = file.executed_by
        found = list(predict(file, arguments.photos, arguments.top, terminal))
        if not file.timed:
            terminal.note(f"{path.name} was executed by {file.executed_by}, which is not what an app runs it with")
    answers = [one for one in found if isinstance(one, Prediction)]
    unread = [one for one in found if isinstance(one, Unread)]
    if arguments.json:
        terminal.json({"file": path.name, "predictions": plain(answers), "unread": plain(unread)})
    else:
        for answer in answers:
            terminal.out.print(printable(_line(answer)), soft_wrap=True, markup=False, emoji=False, highlight=False)
    for one in unread:
        terminal.fail(one.reason)
    if not (unread or arguments.json):
        terminal.note(done(f"{counted(len(answers), 'photo')} answered by {path.name}, executed by {executed_by}"))
    return DataError.exit_code if unread else 0


def _line(answer: Prediction) -> str:
    guesses = ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in answer.guesses)
    numbers = (f"{name} {' '.join(f'{each:.6g}' for each in values)}" for name, values in answer.numbers.items())
    return f"{answer.photo}: {'; '.join(filter(None, [guesses, *numbers]))}"
