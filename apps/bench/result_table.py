"""Results of devices side by side, as the terminal shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rexnet_export.apps.shared.terminal_table import UNBOUNDED, Paragraph
from rexnet_export.pipeline.core.text import printable


class ResultTable:
    """A column for each result, by its name; one below the other where a terminal has no room for names in full."""

    def __init__(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        self._results = results

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The widest form that fits."""
        whole = _table(self._results)
        least = Measurement.get(console, options.update(width=UNBOUNDED), whole).minimum  # lines break between words
        if least <= options.max_width:
            yield whole
            return
        for name, result in self._results.items():
            yield Paragraph(name)
            yield _table({"": result})


def _table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("", box=None, pad_edge=False, show_header=any(results))
    for name in results:
        table.add_column(Text(printable(name)))
    for title, show in ROWS.items():
        table.add_row(Text(title, no_wrap=True), *(Text(shown(show(result))) for result in results.values()))
    return table


def _milliseconds(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else f"{nanoseconds / 1e6:.3f} ms"


def shown(value: object) -> str:
    """A value of a result, or that there is none."""
    if value is None:
        return "not measured"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


ROWS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "device": lambda r: " ".join(
        str(r["device"][key]) for key in ("model", "soc", "arch", "emulator") if r["device"][key]
    ),
    "runtime": lambda r: f"{r['runtime']['name']} {r['runtime']['version']} ({r['runtime']['delegate_or_ep']})",
    "artifact": lambda r: f"{r['runtime']['options'].get('artifact', r['bundle']['target'])}",
    "top-1": lambda r: f"{r['accuracy']['top1']:.2%} of {r['accuracy']['n']}",
    "same top-1 as desktop": lambda r: f"{r['parity']['top1_agreement']:.2%}",
    "largest difference, steps": lambda r: r["parity"]["max_quant_steps"],
    "p50": lambda r: _milliseconds(r["latency"]["p50_ns"]),
    "p90": lambda r: _milliseconds(r["latency"]["p90_ns"]),
    "p99": lambda r: _milliseconds(r["latency"]["p99_ns"]),
    "cold load": lambda r: _milliseconds(r["load"]["cold_ns"]),
    "first inference": lambda r: _milliseconds(r["load"]["first_inference_ns"]),
    "peak memory": lambda r: r["memory"]["peak_rss_bytes"] and f"{r['memory']['peak_rss_bytes'] / 1e6:.1f} MB",
    "ratio to baseline": lambda r: r["paired"]["ratio_median"],
    "durations": lambda r: "valid" if r["validity"]["valid"] else "INVALID: " + ", ".join(r["validity"]["reasons"]),
}
