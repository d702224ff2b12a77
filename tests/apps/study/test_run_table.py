"""`rexnet-study table`: the page in docs is what the code says, and the code agrees with what was published."""

from pathlib import Path

import pytest

from rexnet_export.apps.study.command import main
from rexnet_export.apps.study.family import family, layers
from rexnet_export.apps.study.run_table import document
from rexnet_export.pipeline.model.architecture import VARIANTS, architecture
from rexnet_export.pipeline.model.rexnet import cost

DOCS = Path(__file__).parents[3] / "docs"


def test_page_is_what_the_code_says() -> None:
    assert (DOCS / "family.md").read_text(encoding="utf-8") == document()


def test_counts_agree_with_the_published_ones() -> None:
    members = family()
    assert {member.published.variant for member in members} == set(VARIANTS)
    for member in members:
        published = member.published
        assert member.cost.parameters / 1e6 == pytest.approx(float(published.parameters), rel=0.03), member.spec.name
        if published.macs:
            assert member.cost.macs / 1e9 == pytest.approx(float(published.macs), rel=0.025), member.spec.name


def test_layers_add_up_to_the_network() -> None:
    spec = architecture("lite", 1.3)
    rows, whole = layers(spec), cost(spec)
    assert sum(row.cost.macs for row in rows) == whole.macs
    assert sum(row.cost.parameters for row in rows) == whole.parameters


def test_table8_has_the_blocks_of_the_definition() -> None:
    rows = {row.layer: row for row in layers(architecture())}
    assert [rows[f"features.{n}"].channels_out for n in (0, 5, 15)] == [16, 72, 185]
    assert [bool(rows[f"features.{n}"].squeeze) for n in range(5)] == [False, False, False, True, True]
    assert rows["features.5"].pixels_in == 28
    assert rows["features.5"].stride == 2
    assert sum(row.residual for row in rows.values()) == 11


def test_prints_or_writes_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["table"]) == 0
    printed = capfd.readouterr().out
    assert main(["table", "--write", str(tmp_path / "new" / "family.md"), "--quiet"]) == 0
    assert (tmp_path / "new" / "family.md").read_text(encoding="utf-8") == printed == document()


def test_unwritable_file_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "--write", str(tmp_path), "--quiet"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("rexnet-study table: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*.tmp"))
