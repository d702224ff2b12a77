"""What the flags of all commands share: refusals in one line, and `--version`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.meant import OTHER_SEPARATORS, did_you_mean


def refuse_given(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """`UsageError` for the first of the options `names` that was given; `why` follows its flag."""
    for name in names:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {why}")


class CommandParser(argparse.ArgumentParser):
    """A parser whose refusals are one line, with what was probably meant.

    `meant` are other words that people use for what a choice is called here; `words` are subcommands that the parser
    does not know of itself.
    """

    def __init__(self, *, meant: Mapping[str, str] | None = None, words: Sequence[str] = (), **options: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(**options)
        self._meant = meant or {}
        self._words = tuple(words)
        self._given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - argparse's own
        """The same; the words are kept for hints."""
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with code 2; `--help` has the rest."""
        hint = self._hint(message)
        text = f"{message}; {hint}" if hint else message
        self.exit(2, f"{self.prog}: {' '.join(text.split())} (see {self.prog} --help)\n")

    def _hint(self, message: str) -> str:
        files = [word for word in self._given if word.startswith("-") and os.path.isfile(word)]  # noqa: PTH113 - of any length
        if files:
            return f"for the file write ./{files[0]}"
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            word = unknown[1].partition("=")[0]
            # Of another subcommand it may be a flag.
            return did_you_mean(word, [known for known in (*self._flags(), *self._words) if known != word])
        if choice := re.search(r"invalid choice: '?([^']+?)'? \(choose from (.*)\)", message):
            value, choices = choice[1], re.findall(r"[\w.:-]+", choice[2])
            several = [word for word in OTHER_SEPARATORS.split(value) if word]
            if len(several) > 1 and (flag := re.match(r"argument (--\S+?):", message)) and {*several} <= {*choices}:
                return f"write {' '.join(f'{flag[1]} {word}' for word in several)}"
            return (
                f"{value} is called {self._meant[value]} here" if value in self._meant else did_you_mean(value, choices)
            )
        return ""

    def _flags(self) -> list[str]:
        """Every flag that help shows, those of subcommands too."""
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        below = [p for action in shown if isinstance(action.choices, dict) for p in action.choices.values()]
        return [name for action in shown for name in action.option_strings] + [
            name for parser in below if isinstance(parser, CommandParser) for name in parser._flags()
        ]


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; where several words may follow each other, flags may stand between them."""
    if any(action.nargs == "+" and not action.option_strings for action in parser._actions):
        return parser.parse_intermixed_args(argv)
    return parser.parse_args(argv)


class Version(argparse.Action):
    """`--version`: the package's version, looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it and end."""
        sys.stdout.write(f"{parser.prog} {version('rexnet-export')}\n")
        parser.exit()


def add_version(p: argparse.ArgumentParser) -> None:
    """Give a command `--version`."""
    p.add_argument("--version", action=Version, nargs=0, help="print the version and end")
