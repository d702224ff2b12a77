"""The page's classes: those that lose most first, a warning of those far beyond the others, nothing without labels."""

from dataclasses import replace

from report_samples import made, report

from rexnet_export.apps.export.report.classes import class_section, class_warnings
from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.core.records import NotMeasured


def classes(drops: list[float]) -> tuple[ClassAccuracy, ...]:
    return tuple(
        ClassAccuracy(label=f"<{number}>", n=100, reference=0.9, files={"ort": 0.9 - drop}, sqnr_db={"ort": 30.0})
        for number, drop in enumerate(drops)
    )


def test_the_worst_come_first_and_are_named_once() -> None:
    losing = tuple(
        replace(
            each,
            files={"ort": each.files["ort"], "ort x86": each.files["ort"], "tflite": each.files["ort"] - 0.01},
            sqnr_db=dict.fromkeys(("ort", "ort x86", "tflite"), 30.0),
        )
        for each in classes([0.0, 0.0, 0.1, 0.0])
    )
    shown = replace(report(ort=made("a.ort"), tflite=made("a.tflite")), classes=losing)
    page = class_section(shown)
    assert "\ufffd" not in page  # what a page shows in place of a character that does not print
    assert " dB" in page
    assert page.index("&lt;2&gt;") < page.index("&lt;0&gt;")
    assert list(class_warnings(shown)) == [
        (
            "Classes that lose far more than others: <2> (100 images, 90.0% right in float): 80.0% in ort, ort x86, "
            "79.0% in tflite"
        )
    ]


def test_many_classes_are_folded() -> None:
    page = class_section(replace(report(ort=made("a.ort")), classes=classes([0.0] * 15)))
    assert "<summary>The other 3</summary>" in page


def test_without_labels_there_is_no_section() -> None:
    shown = replace(report(ort=made("a.ort")), classes=NotMeasured(reason="no labels"))
    assert class_section(shown) == ""
    assert list(class_warnings(shown)) == []
