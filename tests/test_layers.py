"""Rooms look one way: one table says what each room may import, and every module however deep is held to it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"rexnet_export(\.\w+)+:\w+")
PACKAGE = "rexnet_export"

# What each room may see, besides itself. A folder that is not named here belongs to the nearest one above it that is.
# `core` holds the words that everybody uses; whatever is named later may see what is named earlier, never the reverse.
TABLE_ROOMS = {"quantization/table", "quantization/onnx"}
QUANTIZATION = {
    *TABLE_ROOMS,
    "quantization/calibration",
    "quantization/scheme",
    "quantization/rewrites",
    "quantization/learned",
    "quantization/search",
}
WORDS = {"pipeline/core", "pipeline/machine"}
BELOW_ARTIFACT = {
    *WORDS,
    "pipeline/pickles",
    "pipeline/model",
    "pipeline/checkpoint",
    "pipeline/labels",
    "pipeline/data",
}
TARGET_SEES = {*WORDS, "pipeline/data", "pipeline/artifact", *TABLE_ROOMS, "quantization/scheme"}
PIPELINE = {
    *BELOW_ARTIFACT,
    "pipeline/timing",
    "pipeline/artifact",
    "pipeline/graph",
    "pipeline/accuracy",
    "pipeline/proof",
    "pipeline/report",
    "pipeline/export",
    "pipeline/finished",
}
ONE_TARGET = {"targets/coreml", "targets/tflite", "targets/ort", "targets/gpu", "targets/openvino"}
TARGETS = {*ONE_TARGET, "targets", "targets/isolation"}
APP_SEES = {*PIPELINE, *QUANTIZATION, *TARGETS, "assets", "apps/shared"}
MAY_SEE: dict[str, set[str]] = {
    "pipeline/core": set(),
    "pipeline/machine": {"pipeline/core"},
    "pipeline/pickles": {"pipeline/core"},
    "pipeline/timing": set(),  # it is shipped to devices with the runner
    "quantization/table": {"pipeline/core"},
    "quantization/onnx": {*WORDS, "quantization/table"},
    "quantization/calibration": {*WORDS, *TABLE_ROOMS},
    "quantization/scheme": {*WORDS, *TABLE_ROOMS, "quantization/calibration"},
    "quantization/rewrites": {*WORDS, *TABLE_ROOMS, "quantization/calibration", "quantization/scheme"},
    "quantization/learned": {*WORDS, *TABLE_ROOMS, "quantization/calibration", "quantization/scheme"},
    "quantization/search": {*WORDS, *QUANTIZATION},
    "pipeline/model": {*WORDS},
    "pipeline/checkpoint": {*WORDS, "pipeline/pickles", "pipeline/model"},
    "pipeline/labels": {*WORDS},
    "pipeline/data": {*WORDS, "pipeline/labels"},
    "pipeline/artifact": {*BELOW_ARTIFACT, *TABLE_ROOMS, "quantization/scheme"},
    "pipeline/graph": {*BELOW_ARTIFACT, "pipeline/artifact"},
    "pipeline/accuracy": {*BELOW_ARTIFACT, "pipeline/artifact", *TABLE_ROOMS},
    "pipeline/proof": {
        *BELOW_ARTIFACT,
        "pipeline/timing",
        "pipeline/artifact",
        "pipeline/graph",
        "pipeline/accuracy",
        *QUANTIZATION,
    },
    "pipeline/report": {*WORDS, "pipeline/accuracy", "pipeline/graph", "pipeline/proof", *QUANTIZATION},
    "pipeline/export": {*PIPELINE, *QUANTIZATION} - {"pipeline/finished"},
    "pipeline/finished": {*PIPELINE, *QUANTIZATION},
    "pipeline/_root": {*PIPELINE, "targets", "apps/export"},  # the Python face of the command
    "assets": {*WORDS, "pipeline/data"},
    "targets/coreml": TARGET_SEES,
    "targets/tflite": TARGET_SEES,
    "targets/ort": TARGET_SEES,
    "targets/gpu": {*TARGET_SEES, "pipeline/timing", "pipeline/model", "pipeline/checkpoint", "targets/ort"},
    "targets/openvino": TARGET_SEES,
    "targets": {*TARGET_SEES, *ONE_TARGET},
    "targets/isolation": {*TARGET_SEES, "pipeline/timing", "targets"},
    "apps/shared": {*PIPELINE, *QUANTIZATION, "targets", "assets"},
    "apps/export/info": {*APP_SEES, "apps/bench/runner"},
    "apps/export": {*APP_SEES, "apps/export/info"},
    "apps/train": APP_SEES,
    "apps/study": {*APP_SEES, "apps/train"},
    "apps/bench/runner": {"pipeline/timing"},
    "apps/bench/result": {*APP_SEES, "apps/bench/runner"},
    "apps/bench": {*APP_SEES, "apps/bench/runner", "apps/bench/result"},
    "apps/gate": {*APP_SEES, "apps/bench/result"},
}
EMPTY_ROOMS = {"pipeline", "quantization", "apps"}  # folders of rooms, with a docstring and nothing else

TOOLCHAINS = {
    "coremltools",
    "onnx2tf",
    "ai_edge_litert",
    "onnxruntime",
    "huggingface_hub",
    "matplotlib",
    "openvino",
    "ray",
}
FILES = [
    path.relative_to(ROOT)
    for folder in ("pipeline", "quantization", "targets", "apps", "assets")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def room_of(folder: str) -> str:
    """The room that a folder belongs to: itself, or the nearest folder above it that the table names."""
    while folder not in MAY_SEE and "/" in folder:
        folder = folder.rpartition("/")[0]
    return folder


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and NAMED.fullmatch(str(node.value)):
            yield node.value.replace(":", ".")  # a command's work, or a target: imported by this name later


def folder_of(name: str, root: Path = ROOT) -> str:
    """The folder that an imported name of ours comes from: `rexnet_export.a.b.thing` -> `a/b`."""
    parts = name.split(".")[1:]
    while parts and not (root.joinpath(*parts) / "__init__.py").is_file():
        parts.pop()
    return "/".join(parts) or "pipeline/_root"


def faults(file: Path, source: str, root: Path = ROOT) -> list[str]:
    """What a module imports and may not, one sentence each."""
    room = room_of(file.parent.as_posix())
    said = []
    for name in imports(ast.parse(source)):
        top = name.split(".")[0]
        if top != PACKAGE:
            if top in {"pipeline", "quantization", "targets", "apps", "assets"}:
                said.append(f"{file}: {name}: import it through {PACKAGE}")
            continue
        seen = room_of(folder_of(name, root))
        if seen != room and seen not in MAY_SEE.get(room, set()):
            said.append(f"{file}: {room} must not look into {seen} ({name})")
    return said


@pytest.mark.parametrize("file", FILES, ids=Path.as_posix)
def test_rooms_look_one_way(file: Path) -> None:
    assert faults(file, (ROOT / file).read_text(encoding="utf-8")) == []


def test_every_folder_has_a_room() -> None:
    folders = {file.parent.as_posix() for file in FILES}
    assert {folder for folder in folders if room_of(folder) not in MAY_SEE} == EMPTY_ROOMS
    assert set(MAY_SEE) <= folders | {"apps/study", "apps/bench"}, "the table names a room that is not there"


def test_the_table_has_no_circle() -> None:
    """Rooms can be put in an order in which each sees only earlier ones."""
    left = {room: {seen for seen in sees if seen != room} for room, sees in MAY_SEE.items()}
    while left:
        free = {room for room, sees in left.items() if not sees & set(left)}
        assert free, f"these look at each other in a circle: {sorted(left)}"
        left = {room: sees for room, sees in left.items() if room not in free}


PLANTED = {
    "core knows nothing of ours": ("pipeline/core/planted.py", "pipeline.data.folder", "ImageFolder"),
    "the pipeline knows no target": ("pipeline/export/planted.py", "targets.ort", "target"),
    "the pipeline knows no command": ("pipeline/proof/planted.py", "apps.shared", "flags"),
    "what comes first does not know what follows": ("pipeline/data/planted.py", "pipeline.proof", "evaluate"),
    "the graph knows no quantization": ("pipeline/graph/planted.py", "quantization.table", "params"),
    "quantization knows no pipeline": ("quantization/search/planted.py", "pipeline.data", "folder"),
    "a lower room knows no higher one": ("quantization/table/planted.py", "quantization.search", "equalize"),
    "targets know no other target": ("targets/tflite/planted.py", "targets.coreml", "package"),
    "targets know no search": ("targets/coreml/planted.py", "quantization.search", "equalize"),
    "commands know no other command": ("apps/gate/planted.py", "apps.train", "trainer"),
    "what runs on a device knows nothing": ("apps/bench/runner/planted.py", "pipeline.core", "errors"),
    "what is shipped with it knows nothing": ("pipeline/timing/planted.py", "pipeline.core", "errors"),
    "a reader of pickles knows no checkpoint": ("pipeline/pickles/planted.py", "pipeline.checkpoint", "load"),
    "a folder inside a room is of that room": ("apps/gate/accuracy/deep/planted.py", "apps.train", "trainer"),
}


@pytest.mark.parametrize(("file", "package", "name"), PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize(
    "form",
    [
        "from {p} import {n}",
        "def f():\n    from {p} import {n}",
        "import {p}.{n}",
        "from {p}.{n} import x",
        "work = '{p}.{n}:x'",
    ],
)
def test_a_planted_import_is_caught(file: str, package: str, name: str, form: str) -> None:
    source = form.format(p=f"{PACKAGE}.{package}", n=name)
    assert len(faults(Path(file), source)) == 1


def test_an_import_around_the_package_is_caught() -> None:
    assert len(faults(Path("apps/gate/planted.py"), "from quantization.table import params")) == 1


@pytest.mark.parametrize("file", FILES, ids=Path.as_posix)
def test_toolchains_are_imported_inside_functions(file: Path) -> None:
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    top_level = ast.Module([node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    loaded = {name.split(".")[0] for name in imports(top_level)} & TOOLCHAINS
    assert not loaded, f"{file} loads {loaded} for everybody who imports it"


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] == "quantization"], ids=Path.as_posix)
def test_only_the_learned_room_of_quantization_needs_torch(file: Path) -> None:
    loaded = {name.split(".")[0] for name in imports(ast.parse((ROOT / file).read_text(encoding="utf-8")))}
    assert "torch" not in loaded or file.parts[1] == "learned"
