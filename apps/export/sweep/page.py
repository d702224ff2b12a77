"""`sweep.html`: all files of a sweep, accuracy against speed and against size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from markupsafe import Markup

from rexnet_export.apps.export.report.first_screen import USES
from rexnet_export.apps.export.sweep.findings import SIGNIFICANT
from rexnet_export.apps.export.sweep.sweep_json import FileRow, SweepJson, TimingsJson
from rexnet_export.apps.export.sweep.tables import COLUMNS, failures, notices, rows, summary, untimed
from rexnet_export.apps.shared.html import document
from rexnet_export.apps.shared.html.plots import Trade, trade_plot
from rexnet_export.pipeline.core.records import NotMeasured


def page(sweep: SweepJson, timings: TimingsJson) -> str:
    """The whole document."""
    return document.render(
        __package__,
        "sweep.html",
        title="Sweep",
        lead=summary(sweep),
        columns=COLUMNS,
        rows=list(rows(sweep, timings)),
        notices=[*notices(sweep), *untimed(timings)],
        failures=list(failures(sweep)),
        margin=f"{sweep.margin * 100:g}",
        kept=", ".join(_kept(sweep)),
        plots=list(_plots(sweep, timings)),
        machine=timings.machine,
    )


def _kept(sweep: SweepJson) -> Iterator[str]:
    """The files that are shown to lose less than the margin."""
    for trial in sweep.trials:
        for row in trial.files:
            if not isinstance(row.against_best, NotMeasured) and row.against_best.p_holm < SIGNIFICANT:
                yield f"{trial.name} ({row.name})"


def _plots(sweep: SweepJson, timings: TimingsJson) -> Iterator[tuple[str, list[Markup]]]:
    """For each name of a file with what it is for, accuracy against time and size, where there are two to compare."""
    families: dict[str, list[FileRow]] = defaultdict(list)
    for row in (row for trial in sweep.trials for row in trial.files):
        families[row.name].append(row)
    for name, family in families.items():
        sizes = [_trade(row, row.bytes / 1e6, on_front=row.on_size_front) for row in family]
        timed = [(row, timings.files.get(row.file)) for row in family]
        times = [
            _trade(row, time.p50_ms, on_front=time.on_speed_front)
            for row, time in timed
            if time is not None and not isinstance(time, NotMeasured)
        ]
        drawn = [(times, "ms of one image"), (sizes, "MB")]
        known = [([trade for trade in trades if trade is not None], unit) for trades, unit in drawn]
        pictures = [trade_plot(trades, unit, f"{name}, top-1 and {unit}") for trades, unit in known if len(trades) > 1]
        if pictures:
            yield f"{name} ({USES[name]})" if name in USES else name, pictures


def _trade(row: FileRow, cost: float, *, on_front: bool) -> Trade | None:
    if isinstance(row.accuracy, NotMeasured) or row.top1_of_all is None:
        return None
    accuracy = row.accuracy
    return Trade(
        name=row.file.split("/")[1],
        cost=cost,
        gain=row.top1_of_all,
        least=row.top1_of_all + accuracy.drop - accuracy.drop_upper_95,
        on_front=on_front,
    )
