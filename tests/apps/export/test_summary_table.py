from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from report_samples import LEFT, SEEN, UNLABELLED, made, report
from rich.console import Console

from rexnet_export.apps.export.report.page import render
from rexnet_export.apps.export.summary_table import reasons, table
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.report.report import Report
from rexnet_export.pipeline.report.report_display import html_table


def rendered(shown: Report, width: int) -> str:
    stream = StringIO()
    Console(width=width, file=stream).print(table(shown), crop=False)
    return stream.getvalue()


def wide() -> Report:
    """Numbers as long as they get."""
    return report(ort=made("rexnet_100-int8.ort"), coreml=made("rexnet_100-fashion-mnist-int8.mlpackage"))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_cut(width: int) -> None:
    lines = rendered(wide(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if "…" in line or "..." in line]
    for numbers in [line.split() for line in lines if "%" in line and "top-1" not in line]:
        assert numbers[-8:] == ["114.3", "100.00%", "-9.75", "pt", "99.75%", "1234.57", "2.4x", "99%"]
    assert sum("1234.57" in line for line in lines) == 3


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", ["rexnet_100-fashion-mnist-int8.mlpackage", f"{'a' * 70}-int8.mlpackage"])
def test_file_names_are_never_broken(name: str, width: int) -> None:
    assert name in rendered(report(coreml=made(name)), width)


def test_a_piped_table_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = StringIO()
    Console(file=stream).print(table(wide()))
    assert stream.getvalue().count("1234.57") == 3


def test_all_macs_are_not_rounded_up() -> None:
    assert "100%" not in rendered(wide(), 80).replace("100.00%", "")


def test_every_reason_is_said_once() -> None:
    interpreter = NotMeasured(reason="an interpreter's speed is not a device's")
    shown = report(
        ort=replace(made("a.ort"), accuracy=UNLABELLED),
        coreml=replace(made("a.mlpackage"), accuracy=UNLABELLED, latency=interpreter),
    )
    shown = replace(shown, reference=replace(shown.reference, top1=UNLABELLED))
    assert list(reasons(shown)) == [
        f"no accuracy of the reference, ort, coreml: {UNLABELLED.reason}",
        f"no latency of coreml: {interpreter.reason}",
    ]
    assert rendered(shown, 200).count(UNLABELLED.reason) == 1


def test_a_preset_that_never_ran_says_why_once() -> None:
    skipped = NotMeasured(reason="needs x86")
    names = ("executed_by", "accuracy", "agreement_with_reference", "logit_sqnr_db", "latency")
    preset = replace(made("b.ort"), **dict.fromkeys(names, skipped))  # type: ignore[arg-type]
    shown = report(ort=made("a.ort"))
    shown = replace(shown, targets={"ort": replace(shown.targets["ort"], presets={"x86": preset})})
    assert list(reasons(shown)) == ["no execution of ort x86: needs x86"]
    assert "LiteRT 2.1.2 ran ort\n" in rendered(shown, 80)


def test_nothing_missing_nothing_said() -> None:
    assert list(reasons(wide())) == []


def test_brackets_are_text_not_markup() -> None:
    assert "[bold].ort" in rendered(report(ort=made("[bold].ort")), 80)


def test_layers_left_in_float_are_counted() -> None:
    shown = " ".join(rendered(replace(wide(), mixed=LEFT), 200).split())
    assert "2 layers stay in float, 10% of the multiply-accumulates: 1 of 200 held-back images" in shown
    assert "with all in INT8 15 (5.92% expected); qparams.json has the reasons" in shown
    none = rendered(replace(wide(), mixed=replace(LEFT, units=())), 200)
    assert "no layer had to stay in float: 15 of 200" in none
    assert "float:" not in rendered(wide(), 200).replace("rexnet_100: float", "")


def test_files_that_were_asked_about_fewer_images_are_named_with_the_cure() -> None:
    some = replace(SEEN, n=2000, reference_top1=0.9315)
    shown = report(ort=replace(made("a.ort"), accuracy=some), coreml=replace(made("b.mlpackage"), accuracy=some))
    line = (
        "on 2,000 of 10,000 images (float 93.15%): ort, coreml; emulated here, and these images show enough: --proof "
        "full judges all"
    )
    assert line in rendered(shown, 200)
    assert line in render(shown, {})
    assert "100.00% on 2,000<" in html_table(shown)
    assert "of 10,000 images (" not in rendered(wide(), 200)
    assert " on 10,000<" not in html_table(wide())
