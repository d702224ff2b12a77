"""The page in a real browser: a whole run on every runtime, photos, and what is refused."""

import base64
import io
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Started, require_runtimes, started
from chromium import PHONE, chromium
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from rich.console import Console

from rexnet_export.apps.bench.browser.run_browser import SILENCE_S, announce
from rexnet_export.apps.bench.bundle.bundle import resize_rule
from rexnet_export.apps.bench.command import main
from rexnet_export.apps.bench.result.result import predictions, read_result
from rexnet_export.apps.bench.runner.archive import open_archive
from rexnet_export.pipeline.core.records import (
    CROP_MODES,
    INTERPOLATIONS,
    Artifact,
    CropMode,
    Interpolation,
    Preprocess,
    stored_file,
)
from rexnet_export.pipeline.data.preprocess import resize_and_crop
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.targets import TARGETS

SHORT = ("--pairs", "2", "--block-runs", "3")
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Browser]]:
    require_runtimes()
    with chromium() as launcher:
        yield launcher


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Browser]) -> Browser:
    return launch()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True)
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    require_runtimes()
    with started("serve", str(bundle), "--output", str(tmp_path_factory.mktemp("served"))) as running:
        yield running


@pytest.fixture(scope="module")
def visit(browser: Browser, served: Started) -> Iterator[Page]:
    """The page of `rexnet-bench serve`, ready; a server is for one browser."""
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(served.url)
    expect(page.locator("#start")).to_be_enabled()
    yield page
    context.close()


def png(folder: Path) -> Path:
    bundled("evaluation").load(5).resize((301, 203), Image.Resampling.BICUBIC).save(folder / "photo.png")
    return folder / "photo.png"


@pytest.mark.parametrize(
    ("artifact", "runtime"),
    [
        ("rexnet_050-int8.tflite", "litert.js"),
        ("rexnet_050-int8-x86.ort", "onnxruntime-web"),
        ("rexnet_050-int8.ort", "onnxruntime-web"),
    ],
)
def test_run_predicts_as_the_desktop(artifact: str, runtime: str, bundle: Path, page: Page, tmp_path: Path) -> None:
    output = tmp_path / "out"
    flags = ("--device", "browser", "--artifact", artifact, *SHORT, "--output", str(output))
    with started("run", str(bundle), *flags) as running:
        page.goto(running.url)
        code, said = running.ended()
    assert code == 4, said
    assert "min_queries" in said
    result = read_result(output)
    assert result["runtime"]["name"] == runtime
    assert result["latency"]["n"] == 6
    assert result["paired"]["pairs"] == 0
    archive = open_archive(bundle)
    archive.unpack(tmp_path / "unpacked")
    golden = np.load(tmp_path / "unpacked" / "expected" / f"{artifact}.npy")
    assert (predictions(output, result) == golden.argmax(1)).all()
    # A small random network prefers one class, so only its logits tell one image from another.
    assert len(np.unique(golden, axis=0)) > len(golden) / 2
    assert result["parity"]["verdict"] == "pass"
    assert np.abs(np.load(output / "logits.npy") - golden).mean() < 0.2 * golden.std(axis=0).mean()


def test_phone_in_the_same_network(bundle: Path, page: Page, tmp_path: Path) -> None:
    """Over plain HTTP an address that is not this machine's own is not secure: no isolation, and it works."""
    output = tmp_path / "out"
    network = ("--host", "0.0.0.0")  # noqa: S104 - as a person with a phone does
    with started("run", str(bundle), "--device", "browser", *network, *SHORT, "--output", str(output)) as running:
        if running.url.startswith("http://127."):
            pytest.skip("this machine has no address but loopback")
        page.goto(running.url)
        expect(page.locator("#hint")).to_contain_text("Not a secure address")
        code, said = running.ended()
    assert code == 4, said
    result = read_result(output)
    assert result["runtime"]["options"]["cross_origin_isolated"] == "false"
    assert result["parity"]["top1_agreement"] == 1


def test_nobody_came(bundle: Path, tmp_path: Path) -> None:
    require_runtimes()
    flags = ("--device", "browser", "--timeout", "1", "--output", str(tmp_path / "out"))
    with started("run", str(bundle), *flags) as running:
        code, said = running.ended()
    assert code == 5, said
    assert "no result from a browser in 1 s" in said
    assert not list(tmp_path.iterdir())


def test_address_that_is_not_ours(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    require_runtimes()
    flags = ["--device", "browser", "--host", "192.0.2.1", "--output", str(tmp_path / "out")]
    assert main(["run", str(bundle), *flags]) == 2
    assert "cannot listen on 192.0.2.1" in capfd.readouterr().err.replace("\n", " ")


def test_code_is_shown_on_a_terminal_alone() -> None:
    for terminal in (True, False):
        shown = io.StringIO()
        announce(
            Console(file=shown, force_terminal=terminal, highlight=False, no_color=True),
            "http://127.0.0.1:1234/token/",
            "127.0.0.1",
        )
        assert "http://127.0.0.1:1234/token/" in shown.getvalue()
        assert "adb reverse tcp:1234 tcp:1234" in shown.getvalue()
        assert ("▄" in shown.getvalue()) == terminal


def test_closed_page_leaves_nothing(bundle: Path, page: Page, tmp_path: Path) -> None:
    flags = ("--device", "browser", "--pairs", "10000", "--output", str(tmp_path / "out"))
    with started("run", str(bundle), *flags) as running:
        page.goto(running.url)
        expect(page.locator("#phase")).to_contain_text("latency")
        page.close()
        closed = time.monotonic()
        code, said = running.ended()
    assert code == 5, said
    assert "page was closed" in said
    assert time.monotonic() - closed < SILENCE_S / 2, "it was told, and did not have to wait for silence"
    assert not list(tmp_path.iterdir())


def test_measure_on_the_page(visit: Page, served: Started) -> None:
    visit.locator("#start").tap()
    expect(visit.locator("#bar")).to_be_visible()
    expect(visit.locator("#results")).to_be_visible(timeout=PATIENCE_MS)
    expect(visit.locator("#durations")).to_contain_text("ms")
    assert visit.locator("#histogram rect").count() == 32
    expect(visit.locator("#accuracy")).to_contain_text("of 24 right; 100.0 % as on the desktop")
    assert visit.locator("#samples li").count() == 12
    expect(visit.locator("#sent")).to_contain_text("The result was sent")
    line = next(line for line in served.process.stderr if "a result arrived" in line)
    assert "litert.js" in line


def test_graphics_where_there_are_some(launch: Callable[..., Browser], bundle: Path, tmp_path: Path) -> None:
    """Chromium's own software renderer stands in for a graphics processor."""
    browser = launch("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    with started("serve", str(bundle), "--images", "4", "--output", str(tmp_path / "out")) as running:
        page = browser.new_page()
        page.goto(running.url)
        page.locator("#choice").select_option(label="litert.js, graphics (WebGPU): rexnet_050-int8.tflite")
        page.locator("#file").set_input_files(png(tmp_path))
        expect(page.locator("#photo")).to_be_visible(timeout=PATIENCE_MS)
        assert page.locator("#classes li").count() == 5
        assert "onnxruntime-web, graphics" not in page.locator("#choice").inner_text()


@pytest.mark.parametrize("width", [320, 390, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_in_light_and_dark(visit: Page, scheme: str, width: int) -> None:
    visit.emulate_media(color_scheme=scheme)
    visit.set_viewport_size({"width": width, "height": 800})
    assert visit.evaluate("document.documentElement.scrollWidth") <= width
    background = visit.evaluate("getComputedStyle(document.body).color")
    red = int(re.search(r"\d+", background).group())
    assert (red > 200) == (scheme == "dark")


def test_photo_is_classified_as_on_the_desktop(visit: Page, exported: Path, tmp_path: Path) -> None:
    visit.locator("#file").set_input_files(png(tmp_path))
    expect(visit.locator("#photo")).to_be_visible()
    path = exported / "rexnet_050-int8.tflite"
    artifact = Artifact(target="tflite", precision="int8", file=stored_file(path))
    pixels = resize_and_crop(Image.open(tmp_path / "photo.png"), Preprocess(size=32, crop_ratio=1.0))
    logits = TARGETS["tflite"].open(artifact).run(pixels[None])[0]
    assert visit.locator("#classes li span").first.inner_text() == bundled("evaluation").class_names[logits.argmax()]
    assert visit.locator("#classes li").count() == 5


@pytest.mark.parametrize("mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(301, 203), (20, 31)])
def test_photo_is_resized_as_on_the_desktop(
    visit: Page, interpolation: Interpolation, mode: CropMode, size: tuple[int, int]
) -> None:
    preprocess = Preprocess(size=(32, 48), crop_mode=mode, crop_ratio=0.875, interpolation=interpolation)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    expected = resize_and_crop(Image.fromarray(pixels), preprocess)
    rgba = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], 2)
    found = visit.evaluate(
        """async ({ width, height, base64, resize }) => {
            const { toInput } = await import("./photo.js");
            const data = Uint8ClampedArray.from(atob(base64), (character) => character.charCodeAt(0));
            return Array.from(toInput({ width, height, data }, { shape: [32, 48], resize }));
        }""",
        {
            "width": size[0],
            "height": size[1],
            "base64": base64.b64encode(rgba.tobytes()).decode(),  # a quarter of a million numbers take a second
            "resize": resize_rule(preprocess),
        },
    )
    apart = np.abs(np.array(found).reshape(32, 48, 3) - expected.astype(int))
    assert apart.max() <= 1
    assert (apart == 0).mean() > (0.9 if interpolation == "box" else 0.97)  # equal weights often sum to a half


def test_file_that_is_no_image_is_refused(visit: Page, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    visit.locator("#file").set_input_files(tmp_path / "bad.png")
    expect(visit.locator("#photo-problem")).to_contain_text("bad.png is no image")
    expect(visit.locator("#photo")).to_be_hidden()
    expect(visit.locator("#start")).to_be_enabled()


def test_another_browser_is_told_why_not(visit: Page, page: Page, served: Started) -> None:
    page.goto(served.url)
    expect(page.locator("#problem")).to_contain_text("opened in another browser")
    assert visit.locator("#start").is_enabled()


def test_serve_ends_well(bundle: Path, tmp_path: Path) -> None:
    require_runtimes()
    with started("serve", str(bundle), "--output", str(tmp_path / "out")) as running:
        running.process.send_signal(signal.SIGINT)
        code, said = running.ended()
    assert code == 0, said
    assert not list(tmp_path.iterdir())


def test_settings_hold_no_secret(visit: Page) -> None:
    told = json.loads(visit.evaluate("fetch('run.json').then((answer) => answer.text())"))
    assert {Path(entry["file"]).parent.name for entry in told["artifacts"]} == {"model"}
    assert "/tmp" not in json.dumps(told)  # noqa: S108 - no path of this machine
