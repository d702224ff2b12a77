"""Bit masks as text: exact, compact, and nothing else is taken for one."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.rounding_mask import check_mask, mask_text, parse_mask


@given(st.lists(st.booleans(), min_size=1, max_size=99))
def test_masks_come_back(bits: list[bool]) -> None:
    text = mask_text(np.array(bits))
    check_mask(text, "w.rounding")
    assert parse_mask(text, len(bits), "w.rounding").tolist() == bits


def test_the_first_weight_is_the_highest_bit_of_the_first_byte() -> None:
    mask = np.zeros((3, 3), bool)
    mask[0, 0] = mask[2, 2] = True
    assert zlib.decompress(base64.b64decode(mask_text(mask))) == b"\x80\x80"


def test_few_marks_take_little_room() -> None:
    mask = np.zeros(100_000, bool)
    mask[::1000] = True
    assert len(mask_text(mask)) < 1000


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("?", "not base64", id="text"),
        pytest.param(base64.b64encode(b"plain").decode(), "not base64 of zlib", id="bytes"),
        pytest.param(packed(b"ab")[:-4], "cut short", id="cut"),
        pytest.param(packed(b"ab")[:-1], "not base64", id="padding"),
        pytest.param(base64.b64encode(zlib.compress(b"ab") + b"c").decode(), "too long", id="more"),
        pytest.param(packed(b"a"), "not a mask of 15", id="small"),
        pytest.param(packed(b"abc"), "too long", id="large"),
        pytest.param(packed(b"abcd"), "too long", id="larger"),
        pytest.param(packed(b"\x00\x01"), "beyond the 15", id="beyond"),
        pytest.param(packed(bytes(10**6)), "too long", id="bomb"),
    ],
)
def test_what_is_no_mask_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConversionError, match=rf"w\.rounding.*{said}"):
        parse_mask(text, 15, "w.rounding")


def test_one_mark_among_those_beyond_is_enough() -> None:
    with pytest.raises(ConversionError, match="beyond the 9"):
        parse_mask(packed(b"\x00\x01"), 9, "w.rounding")


@pytest.mark.parametrize(("size", "taken"), [(2**24, True), (2**24 + 1, False)])
def test_a_mask_of_unknown_size_has_at_most_16_mib(size: int, taken: bool) -> None:  # noqa: FBT001
    text = base64.b64encode(zlib.compress(bytes(size), 1)).decode()
    if taken:
        check_mask(text, "w.rounding")
    else:
        with pytest.raises(ConversionError, match="too long"):
            check_mask(text, "w.rounding")
