"""The integers that LiteRT's plugin hands over: weights and biases, as QNN's recorder has written them.

QNN has a backend that compiles nothing and writes down every call made of it: a C program, `saver_output.c`, and one
file, `params.bin`, with all arrays in the order in which the program reads them. The program is never compiled; three
kinds of its lines are read. What is read and never made a tensor of the graph was only asked about beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, read_untrusted

CALLS, ARRAYS = "saver_output.c", "params.bin"
MOST_CALLS = 256 * 2**20  # bytes
READ = re.compile(r"fread\((\w+)_data, (\d{1,9}), (\d{1,10}), fp\);")
TENSOR = re.compile(r'Qnn_TensorV2_t (\w+)_v2 = \{\w+, "([^"]*)", ')
CREATED = re.compile(r"tensorCreateGraphTensor\(\w+, &(\w+)\)")


def recorded_arrays(folder: Path) -> Measurement[dict[str, bytes]]:
    """Content of every constant tensor of the graph by its name there, where the recording is whole."""
    try:
        calls = read_untrusted(folder / CALLS, MOST_CALLS).decode("utf-8", "replace")
        arrays = read_untrusted(folder / ARRAYS, MOST_ARTIFACT)
    except OSError as error:
        return NotMeasured(reason=f"QNN's recorder left no {CALLS} and {ARRAYS} ({error.strerror})")
    read = list(READ.finditer(calls))
    if (wanted := sum(int(match[2]) * int(match[3]) for match in read)) != len(arrays):
        return NotMeasured(
            reason=f"QNN's recorder stopped halfway: {ARRAYS} has {len(arrays):,} bytes, {CALLS} reads {wanted:,}"
        )
    content = dict(_content(read, arrays))
    names = {match[1]: match[2] for match in TENSOR.finditer(calls)}
    created = (match[1] for match in CREATED.finditer(calls))
    return {names[variable]: content[variable] for variable in created if variable in content and variable in names}


def _content(read: Sequence[re.Match[str]], arrays: bytes) -> Iterator[tuple[str, bytes]]:
    """Arrays by the variables that they are read into."""
    end = 0
    for match in read:
        begin, end = end, end + int(match[2]) * int(match[3])
        yield match[1], arrays[begin:end]
