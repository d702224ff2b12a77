"""`rexnet_export.export` from Python: progress, and how its report shows itself."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import made, report
from signed_folders import key_pair

import rexnet_export
from rexnet_export.pipeline.artifact.signature import require_signed
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.progress import Step


def test_bars_of_tqdm_show_stages(capsys: pytest.CaptureFixture[str]) -> None:
    bars = rexnet_export.tqdm_bars()
    for done in (0, 1, 3):
        bars(Step(stage="calibrating", done=done, total=3, unit="images", note="a.png" if done else ""))
    bars(Step(stage="", done=0, total=0, unit="", note="a remark"))
    bars(Step(stage="converting", done=0, total=2, unit="targets", note=""))
    out, err = capsys.readouterr()
    assert "calibrating: 100%" in err
    assert "a.png" in err
    assert "a remark" in out
    assert "converting:   0%" in err


def test_progress_is_told_and_can_stop_a_run(checkpoint: Path, tmp_path: Path) -> None:
    steps = []

    def tell(step: Step) -> None:
        steps.append(step)
        raise DataError("enough")

    with pytest.raises(DataError, match="enough"):
        rexnet_export.export(checkpoint, targets="ort", output=tmp_path / "out", effort="fast", progress=tell)
    assert len(steps) == 1
    assert steps[0].stage
    assert not (tmp_path / "out").exists()


def test_an_export_is_signed_as_the_command_signs(checkpoint: Path, tmp_path: Path) -> None:
    secret, public = key_pair(tmp_path, "release")
    output = tmp_path / "out"
    few = {"targets": "gpu", "precision": "fp32", "eval_images": 8, "output": output}
    rexnet_export.export(checkpoint, sign=str(secret), **few)
    assert require_signed(output, public)
    with pytest.raises(UsageError, match="is no private key"):
        rexnet_export.export(checkpoint, sign=public, **few)
    assert require_signed(output, public), "the older export stands"


def test_a_report_is_a_line_and_a_table() -> None:
    shown = replace(report(ort=made("a<b>.ort")), output=Path("out"))
    assert repr(shown) == "<Report of rexnet_100 int8: top-1 ort 100.00%, ort x86 100.00%; out>"
    page = shown._repr_html_()
    assert "<td>a&lt;b&gt;.ort</td>" in page
    assert page.count("<tr>") == 3


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("targts", "did you mean targets?"),
        ("eval_dat", "did you mean eval_data?"),
        ("zzzz", "known: checkpoint, targets"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_one_that_there_is(given: str, hint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(hint)):
        rexnet_export.export(**{given: "ort"})
