"""Writes `docs/licences.md`: every package that is needed here, with the licence that it states of itself.

`python docs/licences.py`
"""

from __future__ import annotations

import sys
from pathlib import Path

from rexnet_export.pipeline.machine.distributions import NAME, installed

HEAD = """# Licences of dependencies

What `pip install rexnet-export` brings, directly (**bold**) or not, and the licence that each package states of itself.
Made by `python docs/licences.py`, on Linux x86-64. What comes from others in this repository itself is in
`LICENSE-THIRD-PARTY.md`. The same list is in every export's `sbom.cdx.json`.

| package | version | licence |
|---|---|---|"""


def main() -> int:
    lines = [HEAD]
    for package in installed():
        if package.name != NAME:
            name = f"**{package.name}**" if package.required else package.name
            lines.append(f"| {name} | {package.version} | {package.licence or 'not stated'} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
