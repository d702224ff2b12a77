"""The report as Chromium shows it: on a phone and on a desk, light and dark, without network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import PHONE, chromium
from finished_trials import finish
from PIL import Image
from playwright.sync_api import Browser, Page
from report_samples import LEFT, SEARCHED, made, report
from sheets import sheet

from rexnet_export.apps.export.report.page import render
from rexnet_export.apps.export.sweep.collect import collected
from rexnet_export.apps.export.sweep.page import page as sweep_page
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.sweep_json import TimedRow, TimingsJson
from rexnet_export.apps.export.sweep.trial import Exported
from rexnet_export.apps.gate.outputs.html import page as gate_page
from rexnet_export.apps.gate.outputs.sheet import Metric
from rexnet_export.apps.shared.trials.outcome import Failed
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.export.options import Options

DESK = {"width": 1200, "height": 900}
# Bounding boxes of what sticks out of the page and is not inside something that scrolls.
STICKING_OUT = """() => [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.wide') && e.getBoundingClientRect().right > window.innerWidth + 1)
  .map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""
COLOURS = """() => ({
  page: getComputedStyle(document.body).backgroundColor, scheme: matchMedia('(prefers-color-scheme: dark)').matches,
  text: getComputedStyle(document.querySelector('svg.plot text')).fill,
  body: getComputedStyle(document.body).color})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launch:
        yield launch()


@pytest.fixture(scope="module")
def gate_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    held = [
        Metric(
            subject="net ort x86", measure=f"drop {name}", value=0, unit="points", better="neither", lower=-1, upper=1
        )
        for name in ("baseline", "anchor-release")
    ]
    found = sheet(metrics=tuple(replace(one, allowed=0.5) for one in held))
    path = tmp_path_factory.mktemp("gate") / "gate.html"
    path.write_text(gate_page(found), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    picture = io.BytesIO()
    Image.new("RGB", (28, 28), "red").save(picture, format="PNG")
    long = tuple(replace(each, tensor=f"features.15.{each.tensor}") for each in SEARCHED.sensitivities)
    quality = replace(SEARCHED, sensitivities=long)
    shown = replace(report(ort=made("a" * 60 + ".ort"), tflite=made("a.tflite")), quality=quality, mixed=LEFT)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(shown, {"photo 8.png": picture.getvalue()}), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def sweep_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two trials with long names whose files were timed, and two that failed for one reason."""
    folder = tmp_path_factory.mktemp("sweep")
    names = [f"rexnet_200_of_birds_and_of_{each}-224-high-int8-tflite" for each in ("beasts", "fish", "men", "ants")]
    trials = [Trial(name=name, options=Options(target=("tflite",), output=folder / "trials" / name)) for name in names]
    failed = Failed(exit_code=13, reason="LiteRT is not installed; run: pip install 'rexnet-export[tflite]'")
    done: dict[str, Exported | Failed] = {each.name: finish(each, "the same images") for each in trials[:2]}
    sweep = collected(trials, done | dict.fromkeys(names[2:], failed), folder)
    files = [row.file for trial in sweep.trials for row in trial.files]
    times = {file: TimedRow(p50_ms=10.0, p90_ms=11.0, n=100, on_speed_front=True) for file in files}
    (folder / "sweep.html").write_text(sweep_page(sweep, TimingsJson(machine="an AMD", files=times)), encoding="utf-8")
    return (folder / "sweep.html").as_uri()


def opened(browser: Browser, address: str, viewport: dict[str, int], scheme: str) -> tuple[Page, list[str]]:
    """The page, and what it complained of or asked the network for."""
    page = browser.new_page(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda request: wrong.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    page.goto(address)
    return page, wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("document", ["address", "gate_address", "sweep_address"])
def test_everybody_can_use_the_page(
    document: str, scheme: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    """axe-core: nothing that keeps people with a keyboard, a screen reader or weak sight from reading it."""
    page, _ = opened(browser, request.getfixturevalue(document), DESK, scheme)
    found = Axe().run(page).response["violations"]
    serious = {each["id"]: each["nodes"][0]["html"] for each in found if each["impact"] in {"serious", "critical"}}
    page.close()
    assert serious == {}


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("document", ["address", "gate_address", "sweep_address"])
def test_the_page_fits_and_complains_of_nothing(
    browser: Browser,
    document: str,
    viewport: dict[str, int],
    scheme: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    page, wrong = opened(browser, request.getfixturevalue(document), viewport, scheme)
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    colours = page.evaluate(COLOURS)
    assert colours["scheme"] == (scheme == "dark")
    assert colours["text"] == colours["body"], "pictures write in the page's colour"
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    dark = Image.open(tmp_path / "page.png").convert("L").getpixel((1, 1)) < 128  # type: ignore[operator]
    assert dark == (scheme == "dark")
    assert wrong == []
    page.close()


def test_seven_files_that_are_always_right_fit_on_a_desk(browser: Browser, tmp_path: Path) -> None:
    file = made("rexnet_100_of_birds-int8-vnni.onnx")
    assert not isinstance(file.accuracy, NotMeasured)
    right = replace(file, accuracy=replace(file.accuracy, top1=1.0))
    shown = report(coreml=right, ort=right, tflite=right)
    presets = dict.fromkeys(("x86", "vnni", "npu", "rest"), right)
    targets = {**shown.targets, "ort": replace(shown.targets["ort"], presets=presets)}
    (tmp_path / "report.html").write_text(render(replace(shown, targets=targets), {}), encoding="utf-8")
    page, _ = opened(browser, (tmp_path / "report.html").as_uri(), DESK, "light")
    box, table = page.evaluate("['.results .wide', '.results table'].map(s => document.querySelector(s).scrollWidth)")
    assert table <= box == 960
    page.close()


def test_long_figures_fit_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    file = made("a.ort")
    assert not isinstance(file.accuracy, NotMeasured)
    assert not isinstance(file.latency, NotMeasured)
    slow = replace(file.latency, p50_ms=123.45)
    lost = replace(file.accuracy, top1=0.8766, drop=0.1234, drop_lower_95=0.1, drop_upper_95=0.2)
    long = replace(file, accuracy=lost, latency=slow, float_latency=replace(slow, p50_ms=1234.5))
    (tmp_path / "report.html").write_text(render(report(openvino=long, ort=long), {}), encoding="utf-8")
    page, _ = opened(browser, (tmp_path / "report.html").as_uri(), PHONE, "light")
    assert page.locator(".results tr", has_text="openvino").locator("td", has_text="10.0x").is_visible()
    box, table = page.evaluate("['.results .wide', '.results table'].map(s => document.querySelector(s).scrollWidth)")
    assert table <= box == 358
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_shade_stands_only_where_something_scrolls(
    browser: Browser, address: str, width: int, scheme: str, tmp_path: Path
) -> None:
    page, _ = opened(browser, address, {"width": width, "height": 900}, scheme)
    page.add_style_tag(
        content="td { height: 40.3px } body * { color: #0000 !important; border-color: #0000 !important }"
    )
    places = page.evaluate("""() => [...document.querySelectorAll('.wide')].map(e => {
      const box = e.getBoundingClientRect()
      return [box.right, box.top + scrollY, box.bottom + scrollY, e.scrollWidth > e.clientWidth] })""")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    picture = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    for right, top, bottom, scrolls in places:
        edge = picture[round(top) : round(bottom), int(right) - 1]
        assert bool((edge != picture[0, 0]).any()) == (scrolls and bottom > top)
    page.close()


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_files_of_one_trial_are_told_apart(browser: Browser, tmp_path: Path, viewport: dict[str, int]) -> None:
    trial = Trial(name="a", options=Options(target=("tflite",), output=tmp_path / "trials" / "a"))
    sweep = collected([trial], {"a": finish(trial, "the same images")}, tmp_path)
    (tmp_path / "sweep.html").write_text(sweep_page(sweep, TimingsJson(machine="an AMD", files={})), encoding="utf-8")
    page, _ = opened(browser, (tmp_path / "sweep.html").as_uri(), viewport, "light")
    for text in ("file of", "tflite"):
        assert page.locator("tr > *", has_text=text).first.is_visible()
    page.close()


def test_a_long_name_of_a_trial_pushes_no_column_off_a_desk(browser: Browser, sweep_address: str) -> None:
    page, _ = opened(browser, sweep_address, DESK, "light")
    box, table = page.evaluate("['.trials .wide', '.trials table'].map(s => document.querySelector(s).scrollWidth)")
    assert table <= box
    page.close()


def test_pictures_of_images_are_decoded(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address, PHONE, "light")
    page.locator("figure img").scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("figure").count() == 2
    assert page.locator("svg.plot").count() == 3
    page.close()


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_bars_in_tables_can_be_seen(browser: Browser, address: str, viewport: dict[str, int]) -> None:
    page, _ = opened(browser, address, viewport, "light")
    widths = page.evaluate("[...document.querySelectorAll('td svg')].map(bar => bar.getBoundingClientRect().width)")
    assert len(widths) > 3
    assert min(widths) > 40
    page.close()


def test_what_was_tried_opens(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address, DESK, "light")
    for title in ("stem: 2 tensors", "that were tried"):
        details = page.locator("details", has_text=title)
        assert not details.locator("table").is_visible()
        details.locator("summary").click()
        assert details.locator("table").is_visible()
    page.close()
