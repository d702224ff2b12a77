"""The rooms of the package and what each really imports, drawn into docs/architecture.md from the code.

python docs/rooms.py            # writes the page's generated part
python docs/rooms.py --check    # exit 1 where the page is not what the code says
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
NAMED = re.compile(r"rexnet_export(\.\w+)+:\w+")
LAYERS = ("pipeline", "quantization", "targets", "apps")
BEGIN, END = "<!-- rooms: begin -->\n", "<!-- rooms: end -->\n"
SHOWN_BY_ALL = {"pipeline/core", "pipeline/machine"}  # everything imports them: their arrows would say nothing


def rooms() -> dict[str, str]:
    """Every folder of modules with the first line of its docstring, in order of path."""
    found = {}
    for layer in LAYERS:
        for init in sorted((ROOT / layer).rglob("__init__.py")):
            folder = init.parent.relative_to(ROOT).as_posix()
            if folder.count("/") <= 1 and (len(list(init.parent.glob("*.py"))) > 1 or folder == "targets"):
                text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
                found[folder] = text.partition("\n")[0]
    return found


def room_of(folder: str, names: dict[str, str]) -> str | None:
    """The room a folder belongs to: itself or the nearest one above it."""
    while folder and folder not in names:
        folder = folder.rpartition("/")[0]
    return folder or None


def arrows(names: dict[str, str]) -> set[tuple[str, str]]:
    """Pairs of rooms, the first of which imports something of the second."""
    found = set()
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            source = room_of(path.parent.relative_to(ROOT).as_posix(), names)
            for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
                aim = room_of("/".join(name.split(".")[1:-1]), names)
                if source and aim and source != aim:
                    found.add((source, aim))
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of what a module imports from this package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rexnet_export."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and NAMED.fullmatch(str(node.value)):
            yield node.value.replace(":", ".")  # a command's work, or a target: imported by this name later


def picture(names: dict[str, str], pairs: set[tuple[str, str]]) -> str:
    """A Mermaid graph: one box a room, one frame a layer, one arrow where one imports another.

    An arrow that a longer way along other arrows implies is left out; the table has them all.
    """
    lines = ["```mermaid", "flowchart TB"]
    for layer in reversed(LAYERS):
        lines.append(f'  subgraph {layer}["{layer}/"]')
        inside = [room for room in names if room.partition("/")[0] == layer]
        lines += [f'    {key(room)}["{room.partition("/")[2] or "registry"}"]' for room in inside]
        lines.append("  end")
    lines += [f"  {key(one)} --> {key(other)}" for one, other in sorted(reduced(pairs)) if other not in SHOWN_BY_ALL]
    return "\n".join([*lines, "```"])


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that no longer way implies (the transitive reduction of a graph without circles)."""

    def reaches(start: str, aim: str, *, direct: bool = True) -> bool:
        steps = [other for one, other in pairs if one == start and (direct or other != aim)]
        return aim in steps or any(reaches(step, aim) for step in steps)

    return {(one, other) for one, other in pairs if not reaches(one, other, direct=False)}


def key(room: str) -> str:
    """A Mermaid name; plain `end` and the like are words of its own."""
    return "room_" + room.replace("/", "_")


def generated() -> str:
    """What stands between the markers of the page."""
    names = rooms()
    pairs = arrows(names)
    rows = ["| room | holds | looks into |", "|---|---|---|"]
    for room, text in names.items():
        seen = ", ".join(f"`{other}`" for one, other in sorted(pairs) if one == room and other not in SHOWN_BY_ALL)
        rows.append(f"| `{room}` | {text} | {seen or '-'} |")
    return f"{picture(names, pairs)}\n\n" + "\n".join(rows) + "\n"


def page(text: str) -> str:
    """The page with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{generated()}{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page is out of date")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    wanted = page(text)
    if check:
        return int(text != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
