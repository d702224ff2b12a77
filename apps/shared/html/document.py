"""What all pages share: one self-contained document, readable on a phone, light and dark, no network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from rexnet_export.pipeline.core.text import harmless

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --mark: #2f81d0; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p.lead { margin: .25rem 0 1.5rem; opacity: .75; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; font-size: .85rem; opacity: .75; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
table.facts td { text-align: left; white-space: normal; vertical-align: top; }
table.facts td:first-child { opacity: .7; width: 20%; }
code { font-size: .85em; overflow-wrap: anywhere; }
td svg { display: block; width: 100%; min-width: 3rem; height: 1.5rem; overflow: visible; }
svg.plot { display: block; width: 100%; min-width: 34rem; height: auto; font-family: system-ui, sans-serif; }
svg .zero { stroke: currentColor; opacity: .4; } svg .limit { stroke: var(--mark); stroke-width: 2; }
svg circle { fill: var(--mark); }
summary { cursor: pointer; margin: .75rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figure img { display: block; width: 6rem; height: 6rem; object-fit: contain; background: #8883; }
figcaption { display: grid; font-size: .8rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere; }
figcaption code { opacity: .7; }
.good { color: #3a9a5b; } .bad { color: #d5502f; } .open { color: #b58a00; }
.note { border-left: 3px solid #c80; padding-left: .8rem; margin: 1rem 0; overflow-wrap: anywhere; }
.note.bad { border-color: currentColor; } .note.good { border-color: currentColor; }
@media (max-width: 40rem) {
  .wide { font-size: .8rem; } .wide th { font-size: .75rem; }
  .wide th, .wide td { padding: .4rem .25rem; } .wide :is(th, td):first-child { padding-left: 0; white-space: normal; }
  .results :is(th, td):nth-child(2) { display: none; }
}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """The page with these elements."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    return harmless(page)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td><code>{escape(value)}</code></td></tr>" for name, value in pairs)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'
