"""One import root, no generic top-level names, every file in the wheel."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("pipeline", "quantization", "targets", "apps", "assets")


def test_every_package_is_listed() -> None:
    on_disk = [path.parent.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")]
    named = {".".join(("rexnet_export", *folder.parts)) for folder in on_disk} - {"rexnet_export.pipeline._root"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == named | {"rexnet_export"}
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    assert mapped == {"rexnet_export": "pipeline/_root", **{f"rexnet_export.{folder}": folder for folder in FOLDERS}}


def test_no_generic_name_leaks(tmp_path: Path) -> None:
    code = (
        "import importlib.util, rexnet_export.pipeline.core.records\n"
        "found = [n for n in ('pipeline', 'quantization', 'targets', 'apps', 'assets', 'tests') "
        "if importlib.util.find_spec(n)]\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scripts_exist() -> None:
    for target in PROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        name = module.removeprefix("rexnet_export.").replace(".", "/")
        assert f"def {function}(" in (ROOT / f"{name}.py").read_text(encoding="utf-8")


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    start = lines.index("dependencies = [")
    listed = lines[start + 1 : lines.index("]", start)]
    assert len(listed) == len(PROJECT["project"]["dependencies"])
    assert all("  # " in line for line in listed)
