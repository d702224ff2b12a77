"""The part of `report.html` on how INT8 was searched for: steps, groups of channels, what each tensor damages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from rexnet_export.apps.shared.html.plots import spread_plot
from rexnet_export.apps.shared.html.table import table
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.export.report import Quality
from rexnet_export.quantization.calibration.channel_spread import Spread
from rexnet_export.quantization.onnx.simulate import Score
from rexnet_export.quantization.search.choose_groups import Cut
from rexnet_export.quantization.search.mixed_precision import Mixed
from rexnet_export.quantization.search.search import Trial
from rexnet_export.quantization.search.sensitivity import Sensitivity

SHOWN = 24  # of the tensors, the most damaging


def section(quality: Measurement[Quality]) -> str:
    """The section, or nothing where INT8 was not searched for."""
    if isinstance(quality, NotMeasured):
        return ""
    return "".join(
        (
            "<h2>How INT8 was chosen</h2>",
            f'<p class="lead">Judged by {quality.images} calibration images that set no range, by their logits.</p>',
            table(("step", "", "SQNR", "agreement with float"), _steps(quality.trials)),
            _spreads(quality.spreads),
            _groups(quality.cuts),
            "<h2>What INT8 hurts most</h2>",
            '<p class="lead">Bars: share of the noise that each tensor alone brings to the logits.</p>',
            table(("tensor", "", "alone", "all but it"), _damage(quality.sensitivities)),
        )
    )


def float_section(mixed: Measurement[Mixed]) -> str:
    """What `--max-drop` left in float and why, or nothing where it was not asked for."""
    if isinstance(mixed, NotMeasured):
        return ""
    lead = f"With all layers in INT8, {mixed.int8}. "
    lead += f"With these in float, {mixed.mixed}." if mixed.units else "None had to stay in float."
    rows = [(escape(unit.name), f"{unit.mac_fraction:.1%}", escape(unit.reason)) for unit in mixed.units]
    found = table(("layer", "MACs", "why"), rows) if rows else ""
    return f'<h2>What stays in float</h2><p class="lead">{lead}</p>{found}'


def _steps(trials: Sequence[Trial]) -> Iterable[tuple[str, ...]]:
    for trial in trials:
        yield escape(trial.name), "kept" if trial.kept else "", _db(trial.score), f"{trial.score.agreement:.2%}"


def _spreads(spreads: Sequence[Spread]) -> str:
    if not spreads:
        return ""
    lead = "The closer a channel's range is to the tensor's, the more of the 255 steps it uses; dots are medians."
    return f'<h2>Channels evened out</h2><p class="lead">{lead}</p>{spread_plot(spreads)}'


def _groups(cuts: Sequence[Cut]) -> str:
    rows = []
    for layer, ways in groupby(cuts, key=lambda cut: cut.layer):
        plain, *others = ways
        for cut in others:
            saved = 10 * math.log10(plain.noise / cut.noise) if cut.noise else math.inf
            sizes = " + ".join(map(str, cut.rewrite.sizes)) if cut.rewrite else ""
            kept = "kept" if cut.kept else ""
            rows.append((escape(layer), kept, sizes, f"{saved:.1f} dB", f"{100 * cut.cost:.1f} %"))
    if not rows:
        return ""
    lead = "What scales for groups of channels save of a layer's own noise and add in time, both as predicted."
    head = ("layer", "", "channels", "saves", "costs")
    chosen = [row for row in rows if row[1]]
    shown = table(head, chosen) if chosen else "<p>None was worth it.</p>"
    tried = f"<details><summary>All {len(rows)} that were tried</summary>{table(head, rows)}</details>"
    return f'<h2>Groups of channels</h2><p class="lead">{lead}</p>{shown}{tried}'


def _damage(found: Sequence[Sensitivity]) -> Iterable[tuple[str, ...]]:
    powers = [10 ** (-each.only.sqnr_db / 10) for each in found]
    loudest = max(powers, default=0.0) or 1.0
    for each, power in list(zip(found, powers, strict=True))[:SHOWN]:
        share = power / (sum(powers) or 1.0)
        rest = "" if isinstance(each.all_but, NotMeasured) else f"{_db(each.all_but)}, {each.all_but.agreement:.1%}"
        bar = (
            f'<svg role="img" aria-label="{share:.1%} of the noise">'
            f'<line class="limit" x1="0" x2="{100 * power / loudest:.2f}%" y1="50%" y2="50%"/></svg>'
        )
        yield escape(each.tensor), bar, f"{_db(each.only)}, {each.only.agreement:.1%}", rest


def _db(score: Score) -> str:
    return f"{score.sqnr_db:.1f} dB" if math.isfinite(score.sqnr_db) else "no noise"
