"""Class labels from a file, in the forms people have them: lines, JSON, CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from rexnet_export.pipeline.core.errors import ConversionError, DataError
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.core.text import is_unicode
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.pipeline.labels.class_names import quoted

LARGEST_FILE = 64 * 2**20
TABLES = (".csv", ".tsv")
NUMBER_HEADERS = frozenset({"index", "idx", "id", "number", "target", "class_id", "label_id", "class_index"})
NAME_HEADERS = frozenset({"name", "label", "class", "class_name", "label_name", "description", "synset", "wnid"})
_NUMBERED = (
    re.compile(r"(?P<number>[0-9]{1,9})[\s:,;=]+(?P<name>\S.*)"),
    re.compile(r"(?P<name>.*\S)[\s:,;=]+(?P<number>[0-9]{1,9})"),
)


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels in class order from lines of UTF-8 text, from JSON (a list, or a map from or to numbers), or from CSV."""
    text = read_text(path, "labels")
    if path.suffix.lower() in TABLES:
        labels = _of_table(rows_of(text, f"labels {path}"), path)
    elif text.lstrip().startswith(("[", "{")):
        labels = _of_json(text, path)
    else:
        labels = _of_lines(text.rstrip().splitlines(), path)
    if not labels:
        raise DataError(f"labels {path} are empty; write one label per line in class order")
    for number, label in enumerate(labels, 1):
        if not label.strip():
            raise DataError(f"labels {path}: label {number} is empty; write one label per line, without gaps")
        if not is_unicode(label):
            raise DataError(f"labels {path}: label {number} ({label!a}) is no Unicode text; write it out")
    return tuple(label.strip() for label in labels)


def renumbered(path: Path) -> str | None:
    """One line on lines that number their classes and stand in another order; None where a file has none."""
    text = read_text(path, "labels")
    if path.suffix.lower() in TABLES or text.lstrip().startswith(("[", "{")):
        return None
    lines = text.rstrip().splitlines()
    pairs = _numbers(lines)
    if not pairs or pairs == sorted(pairs):
        return None
    return (
        f"classes go by the numbers in {path.name}, whose lines stand in another order: class 0 is {min(pairs)[1]!r}, "
        f"and the first line is {lines[0]!r}; where the numbers are a part of the names, write a JSON list"
    )


def read_text(path: Path, what: str) -> str:
    """A text file from anywhere; `what` begins the message where it cannot be read."""
    try:
        return read_untrusted(path, LARGEST_FILE).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{what} {path} are not UTF-8 (byte {error.start}); save the file as UTF-8") from error


def rows_of(text: str, where: str) -> list[list[str]]:
    """The rows of a table with commas, semicolons or tabs, all equally long, without blank ones."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        rows = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise DataError(f"{where}: line {reader.line_num} is no CSV ({error}); save the table again") from error
    rows = [row for row in rows if any(row)]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{where}: row {number} has {len(row)} columns, the first has {len(rows[0])}; quote cells with commas"
            )
    return rows


def _of_lines(lines: Sequence[str], path: Path) -> Sequence[str]:
    """One name a line, by its number where every line has one of its own beside it: `2 bird`, `0: cat`, `dog,1`."""
    pairs = _numbers(lines)
    if not pairs:
        return lines
    if pairs != sorted(pairs) and lines == sorted(lines):  # as folders do that a training loader sorts
        by_number = [line for _, line in sorted(zip(pairs, lines, strict=True))]
        raise DataError(
            f"labels {path}: the lines sort in two ways ({quoted(lines)}; or {quoted(by_number)}); sort them by "
            "number, or, where the numbers are a part of the names, write a JSON list"
        )
    return _in_order(pairs, path)


def _numbers(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Number and name of every line, in their order; none where the numbers are no classes'."""
    for numbered in _NUMBERED:
        found = [match for line in lines if (match := numbered.fullmatch(line.strip()))]
        numbers, names = [int(match["number"]) for match in found], {match["name"] for match in found}
        # Names that only their numbers tell apart have them as a part, as banknotes do.
        if not len(lines) == len(names) > 1:
            continue
        ordered = sorted(numbers)
        if ordered == list(range(len(lines))) or (ordered == list(range(1, len(lines) + 1)) and ordered != numbers):
            return [(int(match["number"]), match["name"]) for match in found]
    return []


def _of_json(text: str, path: Path) -> Sequence[str]:
    try:
        value = strict_loads(text)
    except ConversionError as error:
        raise DataError(f"labels {path} are not valid JSON: {error}; write a list of strings") from error
    if isinstance(value, list):
        return [_name(item, path) for item in value]
    assert isinstance(value, dict)
    if all(isinstance(number, int) and not isinstance(number, bool) for number in value.values()):
        return _in_order([(number, name) for name, number in value.items()], path)
    if all(_is_number(number) for number in value):
        return _in_order([(int(number), _name(name, path)) for number, name in value.items()], path)
    raise DataError(f"labels {path} must be a JSON list of strings, {{name: number}} or {{number: name}}")


def _name(value: object, path: Path) -> str:
    """A label; Keras' `["n01440764", "tench"]` is one of two words."""
    words = value if isinstance(value, list) and value else [value]
    texts = [word for word in words if isinstance(word, str)]
    if len(texts) < len(words):
        raise DataError(f"labels {path} must be a JSON list of strings, in class order, or map them to class numbers")
    return " ".join(texts)


def _of_table(rows: list[list[str]], path: Path) -> Sequence[str]:
    """Names by number where a column has numbers, else in the rows' order."""
    if not rows:
        return []
    header = {cell.lower() for cell in rows[0]} & (NUMBER_HEADERS | NAME_HEADERS)
    body = rows[1:] if header else rows
    numeric = [column for column in range(len(rows[0])) if all(_is_number(row[column]) for row in body)]
    for column, head in enumerate(rows[0] if header else ()):
        odd = next((row[column] for row in body if not _is_number(row[column])), None)
        if odd is not None and head.lower() in NUMBER_HEADERS and any(_is_any_number(row[column]) for row in body):
            raise DataError(f"labels {path}: column '{head}' holds '{odd}'; number the classes 0, 1, 2, ..., each once")
    if len(numeric) > 1:
        numeric = [column for column in numeric if rows[0][column].lower() in NUMBER_HEADERS]
        if len(numeric) != 1:
            raise DataError(f"labels {path}: several columns hold numbers; name the class number's column `index`")
    if not numeric:
        return [" ".join(row) for row in body]
    (number,) = numeric
    names = [column for column in range(len(rows[0])) if column != number]
    if not names:
        return [row[number] for row in body]
    return _in_order([(int(row[number]), " ".join(row[column] for column in names)) for row in body], path)


def _in_order(pairs: Sequence[tuple[int, str]], path: Path) -> Sequence[str]:
    """Names whose numbers are 0, 1, 2, ..., each once."""
    ordered = sorted(pairs)
    numbers = [number for number, _ in ordered]
    if numbers and numbers == list(range(1, len(numbers) + 1)):
        raise DataError(f"labels {path} number the classes from 1; a network counts from 0: subtract 1")
    if numbers != list(range(len(numbers))):
        raise DataError(f"labels {path} must number the {len(numbers)} classes from 0 to {len(numbers) - 1}, each once")
    return [name for _, name in ordered]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _is_any_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
