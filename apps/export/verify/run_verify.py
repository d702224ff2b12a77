"""What `rexnet-export verify` does, and prints of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields

from rexnet_export.apps.export.verify.verify_json import verification_json
from rexnet_export.apps.export.verify.verify_tables import problem_lines, tables, verdict_line
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.proof import verify as proof
from rexnet_export.pipeline.proof.verify import Request, Verification
from rexnet_export.targets import SUFFIXES
from rexnet_export.targets.isolation.isolated_file import IsolatedFile


def verify(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Prove the files again, and raise what is wrong with them."""
    found = proof.verify(_request(arguments), IsolatedFile, SUFFIXES, terminal)
    if arguments.json:
        terminal.json(verification_json(found).to_json())
    elif not arguments.quiet:
        terminal.out.print(tables(found))
        if not found.problems:
            terminal.out.print(verdict_line(found), soft_wrap=True)
    if found.problems:
        raise ConversionError("; ".join(_summary(found)))


def _request(arguments: argparse.Namespace) -> Request:
    given = {field.name: getattr(arguments, field.name) for field in fields(Request)}
    return Request(**given | {"paths": tuple(arguments.paths)})


def _summary(found: Verification) -> Iterator[str]:
    """How many files have problems, and every problem with its files."""
    broken = sum(bool(finding.problems) for finding in found.findings)
    yield f"FAIL: {broken} of {counted(len(found.findings), 'file')} failed"
    yield from problem_lines(found)
