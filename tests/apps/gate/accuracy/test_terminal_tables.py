"""What a person reads of an accuracy gate, of a plan and of new baselines."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from gate_results import counted, missing, ratio_check, result
from rich.console import Console, RenderableType

from rexnet_export.apps.gate.accuracy.plan import plan
from rexnet_export.apps.gate.accuracy.result import CheckName, DecidedBy
from rexnet_export.apps.gate.accuracy.terminal_tables import figures, flipped, plan_table, table, told, update_table
from rexnet_export.apps.gate.baseline.update import Updated


def printed(what: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_row_for_each_check_then_reasons_notes_and_flipped_images() -> None:
    passed = replace(counted("tflite", "chain"), outcome="pass")
    lines = printed(table(result(counted("ort", "float", flipped=1), passed, ratio_check(), missing("coreml"))))
    assert lines == [
        "rexnet_100 int8: 1,000 images, out",
        "network check    verdict       top-1  drop  limits 95%   p differ  agree",
        "─" * 72,
        "ort     float    FAIL         92.00% +1.00 -0.17 +2.21 0.1  5.00% 94.00%",
        "tflite  chain    PASS         92.00% +1.00 -0.17 +2.21 0.1  5.00% 94.00%",
        "ort     ratio    INCONCLUSIVE 98.92%    of       99.0%   -      -      -",
        "coreml  baseline NOT COMPARED      -     -           -   -      -      -",
        "ort float: worse",
        "ort ratio to torch: of the reference's",
        "coreml baseline: no coreml; export it again",
        "other kernels",
        "ort float: 1 image flipped",
        "  0.png (cat): cat -> dog",
    ]


@pytest.mark.parametrize(
    ("count", "last"), [(9, "8.png"), (10, "9.png"), (11, "and 1 more"), (1_500, "and 1,490 more")]
)
def test_ten_flipped_images_are_listed_and_the_rest_counted(count: int, last: str) -> None:
    ((title, lines),) = flipped(result(counted("ort", "float", flipped=count))).items()
    assert title == f"ort float: {count:,} images flipped"
    assert "1 image flipped" in "".join(flipped(result(counted("ort", "float", flipped=1))))
    assert lines[-1].startswith(last)
    assert lines[1] == "1.png (cat): cat 91% -> dog 50%"
    assert len(lines) == min(count, 11)


@pytest.mark.parametrize(
    ("decided_by", "limits", "p"),
    [
        ("statistics", "-0.17 +2.21", "0.1"),
        ("agreement", "-", "-"),
        ("same file", "same file", "-"),
        ("same weights", "same weights", "-"),
    ],
)
def test_limits_and_p_are_shown_where_they_decide(decided_by: DecidedBy, limits: str, p: str) -> None:
    shown = figures(replace(counted("ort", "float"), decided_by=decided_by))
    assert shown == {
        "top-1": "92.00%",
        "drop": "+1.00",
        "limits 95%": limits,
        "p": p,
        "differ": "5.00%",
        "agree": "94.00%",
    }


def test_a_reason_of_several_checks_is_said_once() -> None:
    asked: list[tuple[str, CheckName]] = [("ort", "chain"), ("tflite", "chain"), ("ort", "float"), ("gpu", "float")]
    lines = printed(table(result(*(counted(*each) for each in asked), missing("coreml"))))
    assert lines[8:11] == [
        "chain of ort, tflite; float of ort, gpu: worse",
        "coreml baseline: no coreml; export it again",
        "other kernels",
    ]


def test_flipped_images_are_told_of_failures_and_of_what_artifacts_are_compared_with() -> None:
    failed = counted("ort", "chain", flipped=1)
    passed = [replace(counted("ort", name, flipped=1), outcome="pass") for name in ("chain", "baseline", "device")]
    found = told(result(failed, *passed, counted("tflite", "float")))
    assert list(found.values()) == [failed, *passed[1:]]


def test_a_plan_is_a_row_for_each_power() -> None:
    lines = printed(plan_table(plan(1_000, discordance=0.01, margin=0.005)))
    assert lines[:2] == [
        "1,000 images, 1% discordant, margin 0.5 points",
        "power find -0.5 show < 0.5, no drop show < 0.5, half of it smallest drop found smallest margin shown",
    ]
    assert lines[3] == (
        "80%       2,471               2,474                  9,886         0.79 points           0.79 points"
    )
    assert [line.split()[0] for line in lines[3:6]] == ["80%", "90%", "95%"]
    assert lines[6] == "To pass a candidate without any drop in 80 of 100 runs, 1,474 more images are needed."


def test_a_plan_says_what_cannot_be_and_what_suffices() -> None:
    lines = printed(plan_table(plan(10_000, discordance=0.0, margin=0.005)))
    assert lines[3].split()[:2] == ["80%", "impossible"]
    assert lines[3].split()[4] == "-"
    assert lines[-1].endswith("in 80 of 100 runs, these images suffice.")


def test_old_and_new_top1_stand_beside_each_other() -> None:
    one = {"path": Path("baselines/net/ort.json"), "target": "ort"}
    lines = printed(
        update_table(
            [
                Updated(**one, changed=True, old_top1=0.925, new_top1=0.9312),  # type: ignore[arg-type]
                Updated(**one, changed=True, old_top1=None, new_top1=0.5),  # type: ignore[arg-type]
                Updated(**one, changed=False, old_top1=0.25, new_top1=0.25),  # type: ignore[arg-type]
            ]
        )
    )
    assert lines == [
        "target file                   old top-1 new top-1",
        "─" * 49,
        "ort    baselines/net/ort.json    92.50%    93.12%",
        "ort    baselines/net/ort.json         -    50.00%",
        "ort    baselines/net/ort.json    25.00% unchanged",
    ]
