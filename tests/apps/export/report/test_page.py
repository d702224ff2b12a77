from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from report_samples import UNLABELLED, made, report

from rexnet_export.apps.export.report.page import render
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.accuracy.flips import Flips
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.proof.results import FileResult


class Balance(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's parameters
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's parameters
        assert tag in {"line", "circle", "path", "use", "rect"}


def test_the_page_is_whole_and_needs_no_network() -> None:
    page = render(report(ort=made("a.ort"), tflite=made("a.tflite")), {})
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert page.startswith("<!doctype html>")
    outside = re.sub(r'clip-path="url\(#', "", page)
    assert not re.search(r"http|src=|url\(|@import|<script", outside)


def test_artifacts_and_presets_are_all_there() -> None:
    page = render(report(ort=made("a.ort"), tflite=made("a.tflite")), {})
    for name in ("a.ort", "a.tflite", "rexnet_100-int8-x86.ort"):
        assert page.count(name) == 3, "in the table, where it is used, and among the files"
    assert page.count('<svg role="img"') == 3
    assert page.count("<td>ort x86</td>") == 3


def test_the_reference_beside_itself_has_no_limits() -> None:
    page = render(report(ort=made("a.ort"), gpu=made("a.safetensors")), {})
    assert page.count("<td>gpu</td>") == 2, "in the table and among the files"
    assert page.count("<td>ort</td>") == 3, "its drop is drawn too"


def test_a_file_that_is_wrong_in_silence_elsewhere_says_so() -> None:
    shown = report(ort=made("a.ort"))
    presets = {"x86": made("a-x86.ort"), "vnni": made("a-vnni.onnx")}
    page = render(replace(shown, targets={"ort": replace(shown.targets["ort"], presets=presets)}), {})
    said = re.findall(r"<code>([^<]*)</code>", page)
    assert "a-x86.ort" in said
    (warned,) = [text for text in said if "overflow in silence" in text]
    assert warned.startswith("a-vnni.onnx; without VNNI")
    assert "session.x64quantprecision to 1" in warned


def test_what_comes_from_outside_is_text() -> None:
    shown = report(ort=replace(made("<u>.ort"), executed_by="<i>"))
    shown = replace(shown, card=replace(shown.card, name="<script>alert(1)</script>"))
    page = render(shown, {})
    assert not re.search("<script|<u>|<i>", page)
    assert "&lt;u&gt;.ort" in page


def test_reasons_stand_on_the_page_once() -> None:
    shown = report(ort=replace(made("a.ort"), accuracy=UNLABELLED), gpu=replace(made("g"), accuracy=UNLABELLED))
    page = render(shown, {})
    assert page.count(UNLABELLED.reason) == 1
    assert f"no accuracy of ort, gpu: {UNLABELLED.reason}" in page
    assert page.count('<svg role="img"') == 1, "only the preset has an accuracy"


def test_a_page_without_accuracy_has_no_plot() -> None:
    shown = report(ort=replace(made("a.ort"), accuracy=UNLABELLED))
    shown = replace(shown, targets={"ort": replace(shown.targets["ort"], presets={})})
    assert '<svg role="img"' not in render(shown, {})


def test_the_plot_shows_drop_limit_and_zero_on_one_scale() -> None:
    better = Accuracy(n=100, top1=0.92, reference_top1=0.9, drop=-0.02, drop_lower_95=-0.04, drop_upper_95=0.0)
    worse = Accuracy(n=100, top1=0.88, reference_top1=0.9, drop=0.02, drop_lower_95=-0.02, drop_upper_95=0.06)
    shown = report(ort=replace(made("a"), accuracy=better), tflite=replace(made("b"), accuracy=worse))
    shown = replace(shown, targets={name: replace(target, presets={}) for name, target in shown.targets.items()})
    page = render(shown, {})
    assert re.findall(r'class="zero" x1="([\d.]+)%"', page) == ["26.00", "26.00"]
    assert re.findall(r'class="limit" x1="([\d.]+)%" x2="([\d.]+)%"', page) == [("2.00", "26.00"), ("50.00", "98.00")]
    assert "+2.00 points, below 6.00 with 95&nbsp;% confidence (n = 100)" in page


def test_the_verdict_is_that_of_the_gates_margin() -> None:
    def with_limits(lower: float, drop: float, upper: float) -> FileResult:
        measured = Accuracy(n=100, top1=0.9, reference_top1=0.9, drop=drop, drop_lower_95=lower, drop_upper_95=upper)
        return replace(made("a"), accuracy=measured)

    shown = report(
        ort=with_limits(-0.001, 0.0, 0.0049),
        tflite=with_limits(-0.001, 0.0, 0.005),
        other=with_limits(0.005, 0.02, 0.03),
        coreml=with_limits(0.0051, 0.02, 0.03),
        gpu=with_limits(-0.1, 0.0, 0.2),
    )
    shown = replace(shown, targets={name: replace(target, presets={}) for name, target in shown.targets.items()})
    page = render(shown, {})
    little = "drop +0.00 points, at least -0.10, at most 0.50"
    said = re.findall(r'<p class="note (good|bad|open)">(.*?)</p>', page)
    assert [(kind, text.rpartition(": ")[2]) for kind, text in said if "lost" in text] == [
        ("good", "ort"),
        ("bad", "coreml (drop +2.00 points, at least 0.51, at most 3.00)"),
        ("open", f"tflite ({little}); other (drop +2.00 points, at least 0.50, at most 3.00)"),
    ]


def test_equal_networks_are_drawn_too() -> None:
    same = Accuracy(n=100, top1=0.9, reference_top1=0.9, drop=0.0, drop_lower_95=0.0, drop_upper_95=0.0)
    shown = report(ort=replace(made("a"), accuracy=same))
    shown = replace(shown, targets={"ort": replace(shown.targets["ort"], presets={})})
    assert 'cx="2.00%"' in render(shown, {})


def test_the_page_says_when() -> None:
    shown = report(ort=made("a.ort"))
    assert shown.created in render(shown, {})


def test_times_noise_and_flips_are_shown() -> None:
    shown = report(ort=made("a.ort"), tflite=made("a.tflite"))
    page = render(shown, {"photo 8.png": b"PNG"})
    for title in ("Time of one image", "Where precision is lost", "Flipped images"):
        assert f"<h2>{title}</h2>" in page
    assert "Lowest: stem.silu 30.0 dB (tflite)." in page
    assert "2 of 10,000 images get another class" in page
    assert page.count("<figure>") == 2
    assert page.count('src="data:image/png;base64,UE5H"') == 1
    assert "<span>tflite: b 52%</span>" in page
    assert "&lt;photo&gt; 7.png" in page


def test_what_was_not_measured_has_no_section() -> None:
    why = NotMeasured(reason="no runtime here")
    shown = report(ort=replace(made("a.ort"), latency=why))
    shown = replace(shown, targets={"ort": replace(shown.targets["ort"], presets={})}, flips=Flips(images=0, listed=()))
    page = render(shown, {})
    for title in ("Time of one image", "Where precision is lost", "Flipped images"):
        assert title not in page
