"""`rexnet-study rank` on random networks: its page, table and picture, and its refusals."""

import csv
from pathlib import Path

import pytest

from rexnet_export.apps.study.command import main
from rexnet_export.apps.study.rank import run_rank
from rexnet_export.apps.study.rank.run_rank import LIMITS

TINY = ("rank", "--networks", "5", "--widths", "20", "30", "--ratios", "0.2", "0.5", "--quiet")
DOCS = Path(__file__).parents[4] / "docs"


def test_writes_page_table_and_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new" / "rank.md"
    assert main([*TINY, "--kinds", "conv1x1", "--sensitivity", "5", "--write", str(page)]) == 0
    assert "reproduced: " in capfd.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "![rank ratios](rank.svg)" in text
    assert "| networks | 5 |" in text
    assert "| inputs normal |" in text
    rows = list(csv.DictReader(page.with_suffix(".csv").open(encoding="utf-8")))
    assert len(rows) == 2 * 8
    silu = next(row for row in rows if row["nonlinearity"] == "silu" and row["ratio"] == "0.2")
    assert float(silu["published"]) == 0.983
    assert 0 < float(silu["rank_ratio"]) <= 1
    picture = page.with_suffix(".svg").read_text(encoding="utf-8")
    assert picture.startswith("<?xml")
    again = tmp_path / "again" / "rank.md"
    assert main([*TINY, "--kinds", "conv1x1", "--sensitivity", "5", "--write", str(again)]) == 0
    assert again.with_suffix(".svg").read_text(encoding="utf-8") == picture
    assert again.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--ratios", "0.5", "1.5"), "--ratios 1.5: must be above 0 and at most 1", id="ratio"),
        pytest.param(("--nonlinearities", "gelu"), "'gelu': known are linear, relu", id="nonlinearity"),
        pytest.param(("--sensitivity", "0"), "--sensitivity 0: must be at least 1", id="sensitivity"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    page = tmp_path / "rank.md"
    page.write_text("an older study\n", encoding="utf-8")
    assert main([*TINY, *arguments, "--write", str(page)]) == 2
    error = capfd.readouterr().err
    assert said in error
    assert error.startswith("rexnet-study rank: ")
    assert error.count("\n") == 1
    assert page.read_text(encoding="utf-8") == "an older study\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("rank.csv", "must end in .md", id="its own table"),
        pytest.param("rank", "must end in .md", id="no suffix"),
        pytest.param("taken.md", "taken.csv cannot be written", id="a folder for a table"),
        pytest.param("file/rank.md", "cannot be written", id="in a file"),
    ],
)
def test_page_that_cannot_be_is_refused_before_the_study(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(run_rank, "study", None)
    (tmp_path / "taken.csv").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main([*TINY, "--write", str(tmp_path / name)]) == 2
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"taken.csv", "file"}


def test_published_page_is_of_a_thousand_networks() -> None:
    rows = list(csv.DictReader((DOCS / "rank-study.csv").open(encoding="utf-8")))
    assert len(rows) == 4 * 8 * 10
    assert {row["networks"] for row in rows} == {"1000"}
    text = (DOCS / "rank-study.md").read_text(encoding="utf-8")
    assert "reproduced" in text
    assert f"\n{LIMITS}\n" in text
    assert (DOCS / "rank-study.svg").is_file()
