"""Rows and measures of accuracy gates with chosen checks."""

from __future__ import annotations

from dataclasses import replace

from gate_results import counted, missing, ratio_check, result

from rexnet_export.apps.gate.accuracy.sheet import sheet


def test_the_title_names_both_sides_where_there_are_two() -> None:
    assert sheet(result(), {}).title == "rexnet_100 int8, 10,000 images: out against baselines"
    assert sheet(result(baseline=None), {}).title == "rexnet_100 int8, 10,000 images: out"


def test_ratios_say_to_what_and_other_checks_do_not() -> None:
    rows = sheet(result(counted("ort", "float"), ratio_check("torch"), ratio_check("main"), missing("tflite")), {}).rows
    assert [row.check for row in rows] == ["float", "ratio to torch", "ratio to main", "baseline"]
    assert sheet(result(replace(ratio_check(), reference=None)), {}).rows[0].check == "ratio"


def test_top1_is_measured_once_a_network_and_the_drop_in_each_check() -> None:
    found = sheet(result(counted("ort", "float"), counted("ort", "agreement"), missing("tflite"), ratio_check()), {})
    top1, error, drop, agreement = found.metrics
    assert (top1.measure, top1.value, top1.unit, top1.better) == ("top-1", 92.0, "%", "bigger")
    assert (error.measure, error.value, error.better) == ("top-1 error", 8.0, "smaller")
    assert top1.subject == "rexnet_100 int8 ort"
    assert (drop.measure, drop.value, drop.unit) == ("drop float", 1.0, "points")
    assert (drop.lower, drop.upper) == (-0.1673, 2.2107)
    assert (drop.allowed, agreement.allowed) == (0.5, None)
    assert (agreement.value, agreement.lower, agreement.upper) == (1.0, None, None)


def test_measures_have_four_digits() -> None:
    check = counted("ort", "float")
    assert check.numbers
    third = replace(check.numbers, top1=1 / 3, drop=-1 / 3, drop_lower=-2 / 3, drop_upper=2 / 3, margin=1 / 3)
    top1, error, drop = sheet(result(replace(check, numbers=third)), {}).metrics
    assert (top1.value, error.value) == (33.3333, 66.6667)
    assert (drop.value, drop.lower, drop.upper, drop.allowed) == (-33.3333, -66.6667, 66.6667, 33.3333)


def test_two_dozen_flipped_images_are_cards_with_their_pictures() -> None:
    found = sheet(result(counted("ort", "float", flipped=30)), {"1.png": b"PNG"})
    ((title, cards),) = found.cards.items()
    assert title == "ort float: 30 images flipped"
    assert len(cards) == 24
    assert (cards[0].id, cards[0].label, cards[0].picture, cards[1].picture) == ("0.png", "cat", None, b"PNG")
    assert cards[0].lines == ("reference: cat", "candidate: dog")
    assert cards[1].lines == ("reference: cat 91%", "candidate: dog 50%")
