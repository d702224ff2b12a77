"""Planned memory: tensors that live together never overlap, and the plan is no longer than it must be."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.artifact.memory_arena import Life, peak_bytes, place

ALIGNMENT = 64


def lives(*spans: tuple[int, int, int]) -> list[Life]:
    return [Life(bytes=size, first=first, last=last) for size, first, last in spans]


some_lives = st.lists(
    st.builds(
        lambda size, first, steps: Life(bytes=size, first=first, last=first + steps),
        st.integers(1, 1000),
        st.integers(0, 10),
        st.integers(0, 5),
    ),
    max_size=20,
)


def together(tensors: Sequence[Life]) -> int:
    """Bytes alive at the fullest step."""
    return max((sum(t.bytes for t in tensors if t.first <= step <= t.last) for step in range(20)), default=0)


def test_a_chain_needs_room_for_two() -> None:
    assert peak_bytes(lives((640, 0, 1), (640, 1, 2), (640, 2, 3), (640, 3, 4))) == 1280


def test_a_skip_connection_keeps_its_room() -> None:
    assert peak_bytes(lives((640, 0, 3), (640, 1, 2), (640, 2, 3))) == 1920


def test_the_smallest_gap_is_taken() -> None:
    # At step 1 there are 1,024 bytes free below the second tensor, and 896 between it and the fourth.
    tensors = lives((1024, 0, 0), (960, 0, 1), (896, 0, 0), (832, 0, 1), (64, 1, 1))
    assert {p.life.bytes: p.offset for p in place(tensors)} == {1024: 0, 960: 1024, 896: 1984, 832: 2880, 64: 1984}


def test_nothing_needs_nothing() -> None:
    assert peak_bytes([]) == 0


@given(some_lives)
def test_tensors_that_live_together_never_overlap(tensors: list[Life]) -> None:
    placed = place(tensors)
    assert sorted((p.life.bytes, p.life.first, p.life.last) for p in placed) == sorted(
        (t.bytes, t.first, t.last) for t in tensors
    )
    for position, one in enumerate(placed):
        assert one.offset % ALIGNMENT == 0
        for other in placed[position + 1 :]:
            apart = one.end <= other.offset or other.end <= one.offset
            assert apart or not one.life.meets(other.life)


@given(some_lives)
def test_the_arena_is_between_what_lives_together_and_everything(tensors: list[Life]) -> None:
    aligned = sum(-(-t.bytes // ALIGNMENT) * ALIGNMENT for t in tensors)
    assert together(tensors) <= peak_bytes(tensors) <= aligned
