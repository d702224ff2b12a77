"""`rexnet-study rank --checkpoint` and `rexnet-study control`: from training both to the page."""

import csv
from pathlib import Path

import pytest

from rexnet_export.apps.study.command import main
from rexnet_export.apps.study.common.bottleneck_network import load_network
from rexnet_export.pipeline.checkpoint.load import load_checkpoint

TINY = ("control", "--image-size", "32", "--width", "0.25", "--epochs", "1", "--eval-images", "20", "--quiet")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pair")
    assert main([*TINY, "--batch", "512", "--output", str(output)]) == 0
    return output


def test_pair_shares_labels_and_preprocessing(pair: Path) -> None:
    rexnet = load_checkpoint(pair / "rexnet_025.safetensors")
    _, preprocess, labels = load_network(pair / "control.safetensors")
    assert rexnet.labels == labels
    assert rexnet.preprocess == preprocess


def test_page_of_random_networks_is_left_alone(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = ["--networks", "2", "--widths", "20", "30", "--ratios", "0.5"]
    trained = ["--checkpoint", str(pair / "rexnet_025.safetensors"), "--images", "8"]
    assert [main(["rank", *chosen, "--quiet"]) for chosen in (random, trained)] == [0, 0]
    assert {path.name for path in Path("rexnet-study-out").glob("*.md")} == {"rank.md", "rank-trained.md"}


def test_page_table_and_picture(pair: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = [str(pair / "rexnet_025.safetensors"), str(pair / "control.safetensors")]
    page = tmp_path / "trained.md"
    assert main(["rank", "--checkpoint", *files, "--images", "40", "--write", str(page), "--quiet"]) == 0
    assert "rexnet_025 (rexnet_025.safetensors): last block rank" in capfd.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "on 40 images of fashion-mnist-evaluation" in text
    assert text.count("| features.15 |") == 2
    rows = list(csv.DictReader(page.with_suffix(".csv").open(encoding="utf-8")))
    assert {row["network"] for row in rows} == {"rexnet_025.safetensors", "control.safetensors"}
    assert all(len(row["singular_values"].split()) == int(row["channels"]) for row in rows)
    assert page.with_suffix(".svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(("--checkpoint", "/nowhere.safetensors"), 10, "/nowhere.safetensors", id="no checkpoint"),
        pytest.param(("--checkpoint", "PAIR", "--data", "EMPTY"), 11, "", id="no images"),
        pytest.param(("--checkpoint", "PAIR", "--data", "/nowhere"), 11, "/nowhere does not exist", id="no data"),
        pytest.param(("--checkpoint", "PAIR", "--images", "0"), 2, "--images 0", id="none asked"),
        pytest.param(("--checkpoint", "PAIR", "--tolerance", "2"), 2, "--tolerance 2", id="tolerance"),
        pytest.param(("--checkpoint", "PAIR", "--order", "f"), 2, "--order is of random networks", id="mixed"),
        pytest.param(("--data", "EMPTY"), 2, "--data goes with --checkpoint", id="data alone"),
    ],
)
def test_bad_input_is_one_line(
    pair: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"PAIR": str(pair / "control.safetensors"), "EMPTY": str(tmp_path / "empty")}
    given = [places.get(argument, argument) for argument in arguments]
    assert main(["rank", *given, "--write", str(tmp_path / "page.md"), "--quiet"]) == code
    error = capfd.readouterr().err
    assert said in error
    assert error.startswith("rexnet-study rank: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "page.md").exists()
