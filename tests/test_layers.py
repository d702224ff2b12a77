"""Imports point one way, and toolchains are loaded only by those who need them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNEL = {"pipeline.errors", "pipeline.records"}
MAY_IMPORT = {
    "quantization": {"quantization"},
    "pipeline": {"pipeline", "quantization"},
    "targets": {"targets", "pipeline", "quantization"},
    "apps": {"apps", "targets", "pipeline", "quantization", "assets"},
    "assets": {"pipeline"},
}
TOOLCHAINS = {"coremltools", "onnx2tf", "ai_edge_litert", "onnxruntime", "huggingface_hub", "matplotlib", "ray"}
# The root package is the one module of `pipeline/` that may know everything: it is the Python face of the command line.
FILES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).glob("*.py"))]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_imports_point_down(path: Path) -> None:
    allowed = MAY_IMPORT[path.parent.name]
    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if not name.startswith("rexnet_export."):
            assert name.split(".")[0] not in MAY_IMPORT, f"{name}: import through rexnet_export"
            continue
        layer, module = name.split(".")[1:3]
        assert layer in allowed or f"{layer}.{module}" in KERNEL, f"{path.parent.name} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_toolchains_are_imported_inside_functions(path: Path) -> None:
    module = ast.parse(path.read_text(encoding="utf-8"))
    top_level = ast.Module([node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    loaded = {name.split(".")[0] for name in imports(top_level)} & TOOLCHAINS
    assert not loaded, f"{path} loads {loaded} for everybody who imports it"


def test_quantization_needs_no_torch() -> None:
    for path in (ROOT / "quantization").glob("*.py"):
        assert "torch" not in {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))}
