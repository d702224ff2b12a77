from __future__ import annotations

from dataclasses import replace

from report_samples import LEFT, SEARCHED

from rexnet_export.apps.export.report.quantization import float_section, section
from rexnet_export.pipeline.core.records import NotMeasured


def test_steps_groups_and_damage_are_told() -> None:
    page = section(SEARCHED, 10)
    for said in ("170 calibration images", "grouped", "28.7 dB", "1 + 2", "6.0 dB", "1.0 %", "stem.silu", "32.0 dB"):
        assert said in page
    assert "no noise" in page
    assert "&lt;quiet&gt;" in page


def test_the_bar_of_the_loudest_is_whole_and_of_a_silent_one_empty() -> None:
    page = section(SEARCHED, 10)
    assert 'x2="100.00%"' in page
    assert 'x2="0.00%"' in page


def test_without_candidates_there_is_no_table_of_groups() -> None:
    assert "Groups of channels" in section(SEARCHED, 10)
    assert "Groups of channels" not in section(replace(SEARCHED, cuts=()), 10)


def test_nothing_is_said_of_no_search() -> None:
    assert section(NotMeasured(reason="--effort fast"), 10) == ""


def test_what_stays_in_float_is_listed_with_its_reason() -> None:
    page = float_section(LEFT)
    for said in ("15 of 200", "5.92% expected", "1 of 200", "features.3.expand", "6.5%", "7 of 200 &lt;images&gt;"):
        assert said in page
    assert "None had to stay in float" in float_section(replace(LEFT, units=()))
    assert float_section(NotMeasured(reason="no --max-drop")) == ""


def test_channels_that_were_evened_out_are_drawn() -> None:
    assert "Channels evened out" in section(SEARCHED, 10)
    assert "Channels evened out" not in section(replace(SEARCHED, spreads=()), 10)


def test_the_groups_that_were_kept_stand_before_all_that_were_tried() -> None:
    kept, tried = section(SEARCHED, 10).split("<details>")
    assert kept.count("1 + 2") == tried.count("1 + 2") == 1
    none = section(replace(SEARCHED, cuts=tuple(replace(cut, kept=False) for cut in SEARCHED.cuts)), 10)
    assert "None was worth it." in none
