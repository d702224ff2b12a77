"""The gate's page: every row, what is allowed, and flipped images; nothing from outside is more than text."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from sheets import HOSTILE, STATUSES, row, sheet

from rexnet_export.apps.gate.outputs.html import page
from rexnet_export.apps.gate.outputs.sheet import Metric
from rexnet_export.apps.shared.html.flips import Card

CARD = Card(id="7.png", label="cat", lines=("reference: cat 60%", "candidate: dog 51%"), picture=b"PNG")


def bounded(subject: str, upper: float, unit: str = "points") -> Metric:
    return Metric(
        subject=subject, measure="drop", value=0.1, unit=unit, better="neither", lower=0.0, upper=upper, allowed=0.5
    )


def test_every_row_is_there_and_what_did_not_pass_says_why() -> None:
    text = page(sheet())
    assert '<h1>rexnet-gate check: <span class="bad">FAIL</span></h1>' in text
    for status in STATUSES:
        assert f">{status.upper()}</b>" in text
    assert text.count("all is well") == len(STATUSES) - 1
    assert '<b class="bad">FAILED</b>' in text
    assert '<b class="good">PASSED</b>' in text


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_text(text: str) -> None:
    card = Card(id=text, label=text, lines=(text,), picture=None)
    found = page(
        sheet(row("failed", target=text, check=text, message=text), title=text, notes=(text,), cards={text: (card,)})
    )
    body = found.partition("<body>")[2]
    assert not re.search(r"<img|<script|<!--|onerror=alert\(1\)>", body)


def test_only_what_is_held_against_something_is_drawn() -> None:
    assert "<svg" not in page(sheet())
    text = page(
        sheet(
            metrics=(
                bounded("net int8 ort", 0.2),
                bounded("net int8 ort x86", 0.7),
                bounded("net int8 ort", 2, "times"),
            )
        )
    )
    assert text.count("<svg") == 2
    assert ">ort drop</text>" in text
    assert ">ort x86 drop</text>" in text


def test_one_artifact_keeps_its_name() -> None:
    assert ">ort drop</text>" in page(sheet(metrics=(bounded("net int8 ort", 0.2),)))


def test_flipped_images_have_a_section_for_each_question() -> None:
    text = page(sheet(cards={"ort baseline: 1 images flipped": (CARD,), "ort float: 1 images flipped": (CARD,)}))
    assert text.count("<h2>ort ") == 2
    assert text.count('src="data:image/png;base64,UE5H"') == 2
    assert text.count("<span>candidate: dog 51%</span>") == 2


def test_outputs_wait_for_no_toolchain() -> None:
    heavy = "[name for name in ('torch', 'matplotlib', 'scipy') if name in sys.modules]"
    code = f"import sys, rexnet_export.apps.gate.outputs.outputs; print({heavy})"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
