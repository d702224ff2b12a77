"""JSON from elsewhere: no nesting, number or file without end, and one error for all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import HOSTILE_JSON

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.strict_json import read_json, strict_loads


@pytest.mark.parametrize("text", HOSTILE_JSON, ids=lambda text: text[:12])
def test_what_has_no_end_or_no_meaning_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ConversionError) as caught:
        strict_loads(text)
    assert len(str(caught.value)) < 200


def test_what_a_record_may_hold_is_read() -> None:
    assert strict_loads('{"a": [1, 2.5, -3e2, 12345678901234567890, true, null, "x"]}') == {
        "a": [1, 2.5, -300.0, 12345678901234567890, True, None, "x"]
    }
    deep: object = strict_loads("[" * 64 + "]" * 64)
    assert deep


def test_a_file_is_bounded_and_utf8(tmp_path: Path) -> None:
    (file := tmp_path / "record.json").write_text("\ufeff[1]")
    assert read_json(file) == [1]
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_json(file, 3)
    file.write_bytes(b'"\xff"')
    with pytest.raises(ConversionError, match="UTF-8"):
        read_json(file)


def test_a_text_is_bounded() -> None:
    assert strict_loads("[1, 2]", 6) == [1, 2]
    with pytest.raises(ConversionError, match="it has 6 bytes, more than 5"):
        strict_loads("[1, 2]", 5)
