"""What the page of a sweep draws: kinds of files of which there are two to compare, under what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_trials import finish

from rexnet_export.apps.export.sweep.collect import collected
from rexnet_export.apps.export.sweep.page import page
from rexnet_export.apps.export.sweep.plan import Trial
from rexnet_export.apps.export.sweep.sweep_json import SweepJson, TimingsJson
from rexnet_export.apps.export.sweep.tables import notices
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.export.options import Options


@pytest.mark.parametrize(("count", "pictures"), [(1, 0), (2, 1)])
def test_a_single_file_is_not_drawn(tmp_path: Path, count: int, pictures: int) -> None:
    trials = [
        Trial(name=name, options=Options(target=("tflite",), output=tmp_path / "trials" / name))
        for name in "ab"[:count]
    ]
    done = {each.name: finish(each, "the same images") for each in trials}
    text = page(collected(trials, done, tmp_path), TimingsJson(machine="an AMD", files={}))
    assert text.count("<svg") == pictures  # nothing was timed: size alone
    assert ("tflite (Android, and boards with LiteRT)" in text) is bool(pictures)
    assert "<code>an AMD</code>" in text


def test_what_reports_give_notice_of_is_said_once_with_its_trials(tmp_path: Path) -> None:
    trials = [
        Trial(name=name, options=Options(target=("tflite",), output=tmp_path / "trials" / name)) for name in "abc"
    ]
    given = {"a": ("photo 1 is broken", "the size is assumed"), "b": ("the size is assumed",), "c": ()}
    done = {each.name: finish(each, notices=given[each.name]) for each in trials}
    sweep = collected(trials, done, tmp_path)
    said = ["a: photo 1 is broken", "a, b: the size is assumed"]
    assert list(notices(sweep)) == said
    assert [
        f"{', '.join(row.trials)}: {row.notice}" for row in SweepJson.parse(to_text(sweep.to_json())).notices
    ] == said
    text = page(sweep, TimingsJson(machine="it", files={}))
    assert [text.count(line) for line in said] == [1, 1]
    everywhere = {"a": trials[0], "b": trials[1]}
    assert list(notices(collected(list(everywhere.values()), done, tmp_path)))[1] == "all trials: the size is assumed"
