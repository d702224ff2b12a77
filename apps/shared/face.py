"""From a command line to its work: what a command imports before it knows what it is asked."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from rexnet_export.apps.shared.flags import parsed

if TYPE_CHECKING:
    from rexnet_export.apps.shared.terminal import Terminal

INTERRUPTED = 130


def run_parsed(
    program: str,
    parser: Callable[[], argparse.ArgumentParser],
    argv: Sequence[str] | None,
    interrupted: Callable[[argparse.Namespace], str] = lambda _: "",
) -> int:
    """Parse the arguments and do the work they name; its result, or 0, is the exit code.

    `arguments.work` is `module:function`, a function of the arguments and a `Terminal`. Its module is imported only
    then: torch alone takes seconds, and neither `--help` nor a wrong flag waits for it. `arguments.settle`, where the
    parser gives it, goes before: it refuses values, keeps on the arguments what it made of them, and may name other
    work. The parser also gives `--quiet` and `--debug`. `interrupted` is what to say of a run that is stopped.
    """
    try:
        arguments = parsed(parser(), argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    from rexnet_export.apps.shared.terminal import run_command  # noqa: PLC0415 - rich, which no parser needs

    def body(terminal: Terminal) -> int:
        if hasattr(arguments, "settle"):
            arguments.settle(arguments)
        module, _, function = arguments.work.partition(":")
        work: Callable[[argparse.Namespace, Terminal], int | None] = getattr(import_module(module), function)
        return work(arguments, terminal) or 0

    said = interrupted(arguments)
    shown = getattr(arguments, "program", program)  # a subcommand may be named in what it says
    return run_command(shown, body, quiet=arguments.quiet, debug=arguments.debug, interrupted=said)
