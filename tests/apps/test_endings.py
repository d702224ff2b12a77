"""Every command ends with one line: what came of it, why, and what next; it agrees with the exit code.

The gates' own lines are in `gate/test_verdicts.py`, those of `verify` and of an export in the tests of these commands.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from device_results import NAME, VERSIONS, bundle, device_result, upload
from report_samples import made, report

from rexnet_export.apps.bench import run_device
from rexnet_export.apps.bench.browser import run_browser
from rexnet_export.apps.bench.browser.result import accept
from rexnet_export.apps.bench.browser.site import Event
from rexnet_export.apps.bench.bundle import make_bundle
from rexnet_export.apps.bench.command import main as bench
from rexnet_export.apps.export.command import main as export
from rexnet_export.apps.export.sweep import run_sweep
from rexnet_export.apps.gate import run_update
from rexnet_export.apps.gate.baseline.update import Updated
from rexnet_export.apps.gate.command import main as gate
from rexnet_export.apps.study import run_control
from rexnet_export.apps.study.command import main as study
from rexnet_export.apps.study.search import run_search
from rexnet_export.apps.study.search.journal import TrialResult
from rexnet_export.pipeline.export import export as pipeline_export

RANK = ("rank", "--networks", "3", "--widths", "20", "30", "--ratios", "0.5", "--kinds", "conv1x1")
SEARCH = ("search", "--blocks", "3", "--parameters", "16000", "--macs", "800000", "--image-size", "8", "--images", "8")


def last(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err.rstrip().splitlines()[-1]


def hidden_result(folder: Path) -> Path:
    """Of a page that was in the background: its durations are invalid."""
    made = bundle(folder / "bundle")
    sent = upload(np.load(made.folder / "expected" / f"{NAME}.npy")) | {"hidden": True}
    accept(json.dumps(sent).encode(), made, VERSIONS, folder / "result")
    return folder / "result"


@pytest.mark.parametrize(
    ("parity", "reasons", "code", "says"),
    [
        ("pass", [], 0, "done: local computes what the desktop does, 1."),
        ("pass", ["noisy"], 4, "rexnet-bench: INVALID: the durations are not to be trusted (noisy); predictions are"),
        ("fail", [], 1, "rexnet-bench: FAIL: local computes something else than the desktop; see "),
        ("fail", ["noisy"], 1, "rexnet-bench: FAIL: local computes something else than the desktop; see "),
    ],
)
@pytest.mark.parametrize("shown", [[], ["--json"], ["--quiet"]])
def test_of_a_run(
    parity: str,
    reasons: list[str],
    code: int,
    says: str,
    shown: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    result = json.loads((device_result(tmp_path) / "result.json").read_text())
    result["parity"]["verdict"] = parity
    result["validity"] = {"valid": not reasons, "reasons": reasons}
    monkeypatch.setattr(run_device, "_performer", lambda _: lambda *_: result)
    assert bench(["run", "bundle.zip", "--output", str(tmp_path / "out"), *shown]) == code
    out, err = capfd.readouterr()
    if code == 0 and shown == ["--quiet"]:
        assert (out, err) == ("", "")
        return
    assert err.rstrip().splitlines()[-1].startswith(says)
    assert ("same top-1 as desktop" in out, out[:1] == "{", not out) == tuple(
        shown == each for each in ([], ["--json"], ["--quiet"])
    )


@pytest.mark.parametrize(
    ("valid", "says"),
    [
        (True, "done: both give all 24 images the same class; the second takes 1.00 times as long"),
        (False, "done: both give all 24 images the same class; speed is not compared; run "),
    ],
)
def test_of_a_comparison(*, valid: bool, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = device_result(tmp_path / "one"), (device_result if valid else hidden_result)(tmp_path / "other")
    assert bench(["compare", str(one), str(other)]) == 0
    said = last(capfd)
    assert said.startswith(says)
    assert said.endswith("" if valid else f"run {other} again: durations are invalid there")
    assert bench(["compare", str(one), str(other), "--json"]) == 0
    between = json.loads(capfd.readouterr().out)
    assert (between["flipped_images"], between["n"]) == (0, 24)
    assert (between["p50_ratio_b_to_a"] is None) == (not valid)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_results_with_long_names_are_shown_whole(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    places = [Path(f"results-of-the-{each}-phone-in-the-third-drawer") for each in ("first", "second")]
    names = [str(device_result(place)) for place in places]
    assert bench(["compare", *names]) == 0
    out = capfd.readouterr().out
    heads = [line.split() for line in out.splitlines() if names[0] in line or names[1] in line]
    assert heads == ([names] if width == 200 else [[name] for name in names])
    assert out.count("same top-1 as desktop") == len(heads)


@pytest.mark.parametrize(
    ("main", "command", "says"),
    [
        (bench, ["devices"], "done: 1 device seen; run a bundle on one: rexnet-bench run BUNDLE --device DEVICE"),
        (
            gate,
            ["plan", "--images", "500", "--discordance", "5", "--margin", "0.5"],
            "done: {more} more images needed to pass a candidate without any drop in 80 of 100 runs",
        ),
        (
            gate,
            ["plan", "--images", "90000", "--discordance", "5", "--margin", "5"],
            "done: 90,000 images can pass a candidate without any drop in 80 of 100 runs",
        ),
        (study, ["table"], "done: the family is counted; --write FILE keeps it"),
        (study, ["table", "--write", "family.md"], "done: the family is counted, in family.md"),
        (
            study,
            [*RANK, "--write", "rank.md"],
            "done: {more} claims fully reproduced; rank.md has each",
        ),
        (study, [*SEARCH, "--output", "found"], "done: 1 configuration trained, in found; found/search.md has them"),
    ],
)
def test_of_what_only_answers(
    main: Callable[[Sequence[str]], int],
    command: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    one = TrialResult(index=0, channels=(16, 24, 32), top1=(0.5,), parameters=1000, macs=2000)
    monkeypatch.setattr(run_search, "run_search", lambda *_, **__: (one,))
    assert main(command) == 0
    before, _, after = says.partition("{more}")
    said = last(capfd)
    assert said.startswith(before)
    assert after in said
    assert main([*command, "--quiet"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ((True, True), "done: 2 baselines of 2 written; commit kept"),
        ((True, False), "done: 1 baseline of 2 written; commit kept"),
        ((False, False), "done: the baselines are these already; nothing to commit"),
    ],
)
def test_of_new_baselines(
    changed: tuple[bool, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    written = [Updated(path=tmp_path, target="ort", changed=one, old_top1=0.5, new_top1=0.6) for one in changed]
    evidence = argparse.Namespace(targets=["ort"], source="out")
    monkeypatch.setattr(run_update, "read_evidence", lambda _: evidence)
    monkeypatch.setattr(run_update.baseline_update, "update", lambda *_: written)
    assert gate(["update", str(tmp_path), "--reason", "why", "--baselines", "kept"]) == 0
    assert last(capfd) == says


def bundling(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(make_bundle, "bundle_export", lambda *_: None)


def serving(*results: str) -> Callable[[pytest.MonkeyPatch], None]:
    """A page to which browsers send these results, until Ctrl-C."""

    def work(patch: pytest.MonkeyPatch) -> None:
        sent = iter(results)

        def heard(_: object) -> Event:
            if result := next(sent, None):
                return Event(kind="result", content={"of": result})
            raise KeyboardInterrupt

        @contextmanager
        def page(*_: object, **__: object) -> Iterator[argparse.Namespace]:
            yield argparse.Namespace(events=None)

        patch.setattr(run_browser, "_page", page)
        patch.setattr(run_browser, "_next", heard)
        patch.setattr(run_browser, "_summary", lambda content: content["of"])

    return work


def making_a_backbone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pipeline_export, "export_backbone", lambda *_: report(ort=made("a.ort")))


def sweeping(patch: pytest.MonkeyPatch) -> None:
    Path("sweep.toml").write_text("efforts = ['fast', 'high']\ntargets = ['ort']\n")
    patch.setattr(run_sweep, "in_processes", lambda *_: (nothing for nothing in ()))
    for name in ("timed", "_write", "_show", "untimed"):
        patch.setattr(run_sweep, name, lambda *_: ())
    patch.setattr(run_sweep, "collected", lambda *_: argparse.Namespace(trials=(), notices=()))


def training(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run_control, "_trained", lambda make, *_: make())


@pytest.mark.parametrize(
    ("main", "command", "work", "says"),
    [
        (
            bench,
            ["bundle", "out", "--output", "b.zip"],
            bundling,
            "done: b.zip is whole; run it: rexnet-bench run b.zip --device DEVICE",
        ),
        (
            bench,
            ["serve", "b.zip", "--output", "got"],
            serving(),
            "done: no result arrived; open the address on a phone and press its button",
        ),
        (
            bench,
            ["serve", "b.zip", "--output", "got"],
            serving("a phone", "another"),
            "done: 2 results in got; two of them: rexnet-bench compare A B",
        ),
        (
            export,
            ["backbone", "--target", "ort", "--output", "made"],
            making_a_backbone,
            (
                "done: 2 files in made/; its backbone.json has all that was measured; "
                "prove them again: rexnet-export verify made"
            ),
        ),
        (
            export,
            ["sweep", "sweep.toml", "--output", "swept"],
            sweeping,
            (
                "done: 2 trials side by side in swept/, in sweep.html; "
                "choose: rexnet-export sweep pick swept --target TARGET --max-drop POINTS"
            ),
        ),
        (
            study,
            ["control", "--image-size", "32", "--width", "0.5", "--eval-images", "4", "--output", "trained"],
            training,
            (
                "done: trained/rexnet_050.safetensors and control.safetensors are trained; compare their ranks: "
                "rexnet-study rank --checkpoint trained/rexnet_050.safetensors trained/control.safetensors"
            ),
        ),
    ],
)
def test_of_what_makes_something(
    main: Callable[[Sequence[str]], int],
    command: list[str],
    work: Callable[[pytest.MonkeyPatch], None],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, flags in (("said", []), ("quiet", ["--quiet"])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        work(monkeypatch)
        assert main([*command, *flags]) == 0
        said = capfd.readouterr().err.rstrip()
        assert (said.splitlines()[-1] == says) if not flags else (said == "")
