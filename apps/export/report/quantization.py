"""The part of `report.html` on how INT8 was searched for: steps, groups of channels, what each tensor damages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from markupsafe import Markup

from rexnet_export.apps.shared.html.document import render
from rexnet_export.apps.shared.html.plots import spread_plot
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.report.report import Quality
from rexnet_export.quantization.onnx.simulate import Score
from rexnet_export.quantization.search.choose_groups import Cut
from rexnet_export.quantization.search.mixed_precision import Mixed
from rexnet_export.quantization.search.sensitivity import Sensitivity

SHOWN = 24  # of the tensors, the most damaging


def section(quality: Measurement[Quality], classes: int) -> Markup:
    """The section, or nothing where INT8 was not searched for; `classes` are the network's."""
    if isinstance(quality, NotMeasured):
        return Markup()
    groups = list(_groups(quality.cuts))
    return render(
        __package__,
        "search.html",
        images=quality.images,
        coverage=f"{quality.classes:,} of {classes:,}",
        steps=[(t.name, "kept" if t.kept else "", _db(t.score), f"{t.score.agreement:.2%}") for t in quality.trials],
        spreads=spread_plot(quality.spreads) if quality.spreads else "",
        groups=groups,
        kept=[row for row in groups if row[1]],
        damage=list(_damage(quality.sensitivities)),
    )


def float_section(mixed: Measurement[Mixed]) -> Markup:
    """What `--max-drop` left in float and why, or nothing where it was not asked for."""
    if isinstance(mixed, NotMeasured):
        return Markup()
    lead = f"With all layers in INT8, {mixed.int8}. "
    lead += f"With these in float, {mixed.mixed}." if mixed.units else "None had to stay in float."
    rows = [(unit.name, f"{unit.mac_fraction:.1%}", unit.reason) for unit in mixed.units]
    return render(__package__, "float.html", lead=lead, rows=rows)


def _groups(cuts: Sequence[Cut]) -> Iterator[tuple[str, ...]]:
    for layer, ways in groupby(cuts, key=lambda cut: cut.layer):
        plain, *others = ways
        for cut in others:
            saved = 10 * math.log10(plain.noise / cut.noise) if cut.noise else math.inf
            sizes = " + ".join(map(str, cut.rewrite.sizes)) if cut.rewrite else ""
            yield layer, "kept" if cut.kept else "", sizes, f"{saved:.1f} dB", f"{100 * cut.cost:.1f} %"


def _damage(found: Sequence[Sensitivity]) -> Iterator[tuple[str, ...]]:
    """Of each tensor its share of the noise and the length of its bar, the score with it alone, and without it."""
    powers = [10 ** (-each.only.sqnr_db / 10) for each in found]
    loudest = max(powers, default=0.0) or 1.0
    for each, power in list(zip(found, powers, strict=True))[:SHOWN]:
        share = power / (sum(powers) or 1.0)
        rest = "" if isinstance(each.all_but, NotMeasured) else f"{_db(each.all_but)}, {each.all_but.agreement:.1%}"
        alone = f"{_db(each.only)}, {each.only.agreement:.1%}"
        yield each.tensor, f"{share:.1%}", f"{100 * power / loudest:.2f}%", alone, rest


def _db(score: Score) -> str:
    return f"{score.sqnr_db:.1f} dB" if math.isfinite(score.sqnr_db) else "no noise"
