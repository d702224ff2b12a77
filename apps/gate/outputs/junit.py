"""A gate's rows as JUnit XML."""

from __future__ import annotations

import io
import re

from junitparser import Error, Failure, JUnitXml, Properties, Property, Skipped, TestCase, TestSuite

from rexnet_export.apps.gate.outputs.sheet import Row, Sheet
from rexnet_export.apps.gate.words import Status

RESULTS: dict[Status, type[Failure | Error | Skipped]] = {
    "failed": Failure,
    "error": Error,
    "undecided": Skipped,
    "skipped": Skipped,
}
NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def junit(sheet: Sheet) -> str:
    """One case for each artifact and check: a failure is a regression, an error no answer where one was needed.

    Readers show a case alone, so each says its own reason; the suite says every reason once.
    """
    suite = TestSuite(_xml(f"{sheet.command}: {sheet.title}"))
    suite.timestamp = sheet.created
    suite.add_property("verdict", _xml(sheet.words.verdict))
    suite.add_property("reason", _xml(sheet.words.sentence))
    for number, reason in enumerate(sheet.reasons, 1):
        suite.add_property(f"reason {number}", _xml(reason.line))
    for number, note in enumerate(sheet.notes, 1):
        suite.add_property(f"note {number}", _xml(note))
    suite.add_testcases([_case(row) for row in sheet.rows])
    whole = JUnitXml(sheet.command)
    whole.add_testsuite(suite)
    content = io.BytesIO()
    whole.write(content)
    return content.getvalue().decode()


def _case(row: Row) -> TestCase:
    case = TestCase(_xml(row.check), _xml(row.target), 0.0)
    figures = Properties()  # type: ignore[no-untyped-call] # the library is typed in parts
    for name, value in {"verdict": row.words.verdict, **row.figures}.items():
        figures.add_property(Property(_xml(name), _xml(value)))
    case.append(figures)  # type: ignore[no-untyped-call]
    if row.words.status in RESULTS:
        case.result = RESULTS[row.words.status](_xml(row.words.sentence), _xml(row.words.verdict))
    else:
        case.system_out = _xml(row.words.sentence)
    return case


def _xml(text: str) -> str:
    return NO_XML.sub("\ufffd", text)
