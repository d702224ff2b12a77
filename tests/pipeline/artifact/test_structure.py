"""Islands of float operators, and structures as JSON."""

from rexnet_export.pipeline.artifact.structure import islands


def test_operators_that_feed_each_other_are_one_island() -> None:
    chain = [(("a",), ("b",)), (("b",), ("c",)), (("c",), ("d",))]
    assert islands(chain) == 1
    assert islands(reversed(chain)) == 1
    assert islands([]) == 0


def test_a_shared_input_joins_nobody() -> None:
    assert islands([(("image", "scale"), ("b",)), (("image", "scale"), ("c",))]) == 2


def test_an_operator_joins_what_it_reads() -> None:
    parts = [((), ("a",)), ((), ("b",)), ((), ("far",))]
    assert islands(parts) == 3
    assert islands([*parts, (("a", "b"), ("sum",))]) == 2


def test_islands_joined_late_are_one() -> None:
    assert islands([(("x1",), ("x2",)), (("y1",), ("y2",)), (("x2", "y2"), ("z",)), (("z",), ("end",))]) == 1
