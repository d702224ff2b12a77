"""The command that installs something where this runs: environments of uv and of pipx have no pip of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

PACKAGE = "rexnet-export"
MOST_SECONDS = 10  # that a Python may take to say whether it has uv
UV_SETTING = "uv"  # what uv writes into `pyvenv.cfg`, with its version


def extra_command(extra: str) -> str:
    """What installs an extra of this package; a project of uv's keeps it, as its lock file knows it."""
    project = _uv_project()
    if project is None or (uv := _uv()) is None:
        return install_command(f"{PACKAGE}[{extra}]")
    below = "" if Path.cwd().is_relative_to(project) else f" --project {quote(str(project))}"
    if _name(project) == PACKAGE:
        return f"{uv} sync --inexact --extra {extra}{below}"
    return f"{uv} add{below} {quote(f'{PACKAGE}[{extra}]')}"


def install_command(requirement: str) -> str:
    """What installs a requirement, such as `onnxruntime==1.26.0`, into the environment that this runs in."""
    prefix, what, python = Path(sys.prefix), quote(requirement), quote(sys.executable)
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx runpip {quote(prefix.name)} install {what}"
    if find_spec("pip") is not None:
        nearest = shutil.which("pip")
        mine = nearest is not None and Path(nearest).is_relative_to(prefix)
        return f"pip install {what}" if mine else f"{python} -m pip install {what}"
    if (prefix / "conda-meta").is_dir():
        return f"conda install -y -p {quote(sys.prefix)} pip && {python} -m pip install {what}"
    if _made_by_uv(prefix) and (uv := _uv()):
        return f"{uv} pip install --python {quote(sys.prefix)} {what}"
    return f"{python} -m ensurepip && {python} -m pip install {what}"


def _made_by_uv(prefix: Path) -> bool:
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.partition("=")[0].strip() == UV_SETTING for line in lines)


def _uv_project() -> Path | None:
    """The project whose environment this is, where uv keeps it: a clone of this one, or one that needs this package."""
    prefix = Path(sys.prefix)
    found = _made_by_uv(prefix) and (prefix.parent / "uv.lock").is_file()
    return prefix.parent if found and prefix.name == ".venv" else None


def _name(project: Path) -> str | None:
    try:
        stated = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = stated.get("project", {}).get("name")
    return name if isinstance(name, str) else None


def _uv() -> str | None:
    """uv as a shell takes it, if at all; it may be a module alone, of a Python that an active environment hides."""
    if shutil.which("uv"):
        return "uv"
    if "UV" in os.environ:
        return quote(os.environ["UV"])
    pythons = filter(None, (shutil.which("python3", path=folder) for folder in os.get_exec_path()))
    having = next(filter(_has_uv, pythons), None)
    return having and f"{'python3' if having == shutil.which('python3') else quote(having)} -m uv"


def _has_uv(python: str) -> bool:
    command = [python, "-m", "uv", "--version"]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=MOST_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
