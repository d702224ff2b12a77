"""Noisy classes and images are notes: each is named once with its files, in no verdict's colour."""

import re
from dataclasses import replace

from report_samples import SEEN, made, report

from rexnet_export.apps.export.report.noise import noise_notes
from rexnet_export.apps.export.report.page import render
from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.compare import EQUAL
from rexnet_export.pipeline.accuracy.image_noise import ImageNoise, NoisyImage
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.report.report import Report

CURE = "; accuracy counts them already; where they matter, add images like them to --calibration-data"


def noise(far_worse: int, **levels: float) -> ImageNoise:
    worst = tuple(NoisyImage(id=name, sqnr_db=level) for name, level in levels.items())
    return ImageNoise(median_db=31.0, far_worse=far_worse, worst=worst)


def class_at(label: str, ort: float, tflite: float) -> ClassAccuracy:
    levels = {"ort": ort, "tflite": tflite}
    return ClassAccuracy(label=label, n=100, reference=0.9, files=dict.fromkeys(levels, 0.9), sqnr_db=levels)


def quiet() -> Report:
    shown = report(ort=made("a.ort"), tflite=made("a.tflite"))
    return replace(shown, image_noise={}, classes=NotMeasured(reason="no labels"))


def test_an_image_is_named_once_with_all_its_files() -> None:
    found = {"ort": noise(17, a=12.0, b=15.0), "tflite": noise(17, a=11.0, c=13.0), "coreml": noise(2, d=18.0, e=19.0)}
    (said,) = noise_notes(replace(quiet(), image_noise=found))
    count, _, worst = said.removesuffix(CURE).partition(", worst ")
    assert count == "far noisier than the median image: 17 (ort, tflite), 2 (coreml) of 10,000"
    assert worst == "a (11.0 dB; ort, tflite), c (13.0 dB; tflite), b (15.0 dB; ort)"


def test_of_how_many_images_is_said_where_it_is_not_all() -> None:
    shown = quiet()
    ort = replace(made("a.ort"), accuracy=replace(SEEN, n=2000))
    targets = {**shown.targets, "ort": replace(shown.targets["ort"], artifact=ort)}
    found = {"ort": noise(3, a=12.0), "tflite": noise(3, a=11.0)}
    (said,) = noise_notes(replace(shown, targets=targets, image_noise=found))
    assert said.startswith("far noisier than the median image: 3 (tflite) of 10,000; 3 (ort) of 2,000, worst a")


def test_a_class_is_named_once_with_all_its_files() -> None:
    levels = [class_at("a", 30, 30), class_at("b", 14, 13), class_at("c", 30, 12), class_at("d", 30, 30)]
    assert list(noise_notes(replace(quiet(), classes=(*levels, class_at("e", 30, 30))))) == [
        f"far noisier than the median class: 2 of 5 classes, worst c (12.0 dB; tflite), b (13.0 dB; ort, tflite){CURE}"
    ]


def test_two_classes_of_one_name_are_two() -> None:
    birds_and_machines = (class_at("crane", 11, 30), class_at("crane", 30, 12))
    others = (class_at(label, 30, 30) for label in "abc")
    assert list(noise_notes(replace(quiet(), classes=(*birds_and_machines, *others)))) == [
        f"far noisier than the median class: 2 of 5 classes, worst crane (11.0 dB; ort), crane (12.0 dB; tflite){CURE}"
    ]


def test_nothing_is_said_of_what_is_equal_or_not_noisy() -> None:
    assert list(noise_notes(quiet())) == []
    assert list(noise_notes(replace(quiet(), image_noise={"ort": EQUAL, "tflite": noise(0)}))) == []


def test_on_the_page_noise_has_no_colour_and_stands_below_the_files() -> None:
    page = render(replace(quiet(), image_noise={"ort": noise(1, a=12.0)}), {})
    assert re.findall(r'<p class="([^"]*)">far noisier', page) == ["note"]
    assert page.index("far noisier") > page.index("a.ort")
    assert 'class="note bad"' not in page
