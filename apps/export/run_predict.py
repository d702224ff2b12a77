"""What `rexnet-export predict` does, and prints of it."""

from __future__ import annotations

import argparse

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.artifact.export_folder import artifact_at
from rexnet_export.pipeline.core.json import plain
from rexnet_export.pipeline.core.text import printable
from rexnet_export.pipeline.proof.predict import Prediction, predict
from rexnet_export.targets import SUFFIXES
from rexnet_export.targets.isolation.isolated_file import IsolatedFile


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Ask the file, and print a line a photo."""
    path = artifact_at(arguments.file, arguments.target, SUFFIXES)
    with IsolatedFile(path) as file:
        executed_by = file.executed_by
        answers = tuple(predict(file, arguments.photos, arguments.top, terminal))
        if not file.timed:
            terminal.note(f"{path.name} was executed by {file.executed_by}, which is not what an app runs it with")
    if arguments.json:
        terminal.json({"file": path.name, "predictions": plain(answers)})
        return
    for answer in answers:
        terminal.out.print(printable(_line(answer)), soft_wrap=True, markup=False, emoji=False, highlight=False)
    terminal.note(done(f"{counted(len(answers), 'photo')} answered by {path.name}, executed by {executed_by}"))


def _line(answer: Prediction) -> str:
    guesses = ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in answer.guesses)
    numbers = (f"{name} {' '.join(f'{each:.6g}' for each in values)}" for name, values in answer.numbers.items())
    return f"{answer.photo}: {'; '.join(filter(None, [guesses, *numbers]))}"
