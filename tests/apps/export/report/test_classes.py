"""The page's classes: those that lose most first, a warning of those far beyond the others, nothing without labels."""

from dataclasses import replace

from report_samples import made, report

from rexnet_export.apps.export.report.classes import class_section, class_warnings, image_warnings
from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.compare import EQUAL
from rexnet_export.pipeline.core.records import NotMeasured


def classes(drops: list[float]) -> tuple[ClassAccuracy, ...]:
    return tuple(
        ClassAccuracy(label=f"<{number}>", n=100, reference=0.9, files={"ort": 0.9 - drop}, sqnr_db={"ort": 30.0})
        for number, drop in enumerate(drops)
    )


def test_the_worst_come_first_and_are_warned_of() -> None:
    shown = replace(report(ort=made("a.ort")), classes=classes([0.0, 0.0, 0.1, 0.0]))
    page = class_section(shown)
    assert page.index("&lt;2&gt;") < page.index("&lt;0&gt;")
    assert list(class_warnings(shown)) == [
        "ort loses far more in some classes than in others: <2> (90.0% to 80.0% of 100)"
    ]


def test_noisy_classes_and_images_are_warned_of_too() -> None:
    plain = classes([0.0] * 4)
    shown = replace(report(ort=made("a.ort")), classes=(*plain[:3], replace(plain[3], sqnr_db={"ort": 14.0})))
    assert list(class_warnings(shown)) == [
        "ort is far noisier in some classes than in its median one (30.0 dB): <3> (14.0 dB)"
    ]
    assert "90.0%, 14.0 dB" in class_section(shown)
    assert list(image_warnings(shown)) == [
        (
            "ort is far noisier on 1 of 10,000 images than on its median one (31.0 dB), most of all on <photo> 7.png "
            "(18.5 dB)"
        )
    ]
    assert list(image_warnings(replace(shown, image_noise={"ort": EQUAL}))) == []


def test_many_classes_are_folded() -> None:
    page = class_section(replace(report(ort=made("a.ort")), classes=classes([0.0] * 15)))
    assert "<summary>The other 3</summary>" in page


def test_without_labels_there_is_no_section() -> None:
    shown = replace(report(ort=made("a.ort")), classes=NotMeasured(reason="no labels"))
    assert class_section(shown) == ""
    assert list(class_warnings(shown)) == []
