"""The command that is named works where it is named: in environments of uv, pipx, conda and pip."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rexnet_export.pipeline.core import installing
from rexnet_export.pipeline.core.installing import extra_command, install_command

UV = "home = /usr/bin\nimplementation = CPython\nuv = 0.9.7\n"
VENV = "home = /usr/bin\nversion = 3.12.3\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """This Python, as if it ran in an environment of a kind, with nothing on the PATH but what is named."""

    def made(name: str, config: str = "", *, pip: bool = False, uv: bool = True, files: tuple[str, ...] = ()) -> Path:
        prefix, tools = tmp_path / name, tmp_path / "tools"
        (prefix / "bin").mkdir(parents=True)
        tools.mkdir()
        (prefix / "pyvenv.cfg").write_text(config)
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text('[project]\nname = "rexnet-export"\n' if file.endswith("toml") else "")
        if uv:
            (tools / "uv").touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tools))
        monkeypatch.delenv("UV", raising=False)
        monkeypatch.setattr(sys, "prefix", str(prefix))
        monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "python"))
        monkeypatch.setattr(installing, "find_spec", lambda _: object() if pip else None)
        monkeypatch.chdir(tmp_path)
        return prefix

    return made


def test_in_a_clone_that_uv_runs_the_lock_file_decides(
    here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = here(".venv", UV, files=("uv.lock", "pyproject.toml"))
    assert extra_command("data") == "uv sync --inexact --extra data"
    (prefix.parent / "photos").mkdir()
    monkeypatch.chdir(prefix.parent / "photos")
    assert extra_command("data") == "uv sync --inexact --extra data"
    monkeypatch.chdir("/")
    assert extra_command("data") == f"uv sync --inexact --extra data --project {prefix.parent}"


def test_in_another_project_of_uv_the_need_is_noted(here: Callable[..., Path]) -> None:
    prefix = here(".venv", UV, files=("uv.lock",))
    (prefix.parent / "pyproject.toml").write_text('[project]\nname = "app"\n')
    assert extra_command("data") == "uv add 'rexnet-export[data]'"


def test_an_environment_of_uv_without_a_project_has_no_pip(here: Callable[..., Path]) -> None:
    prefix = here("my env", UV)
    assert extra_command("hub") == f"uv pip install --python '{prefix}' 'rexnet-export[hub]'"
    assert install_command("onnxruntime==1.26.0") == f"uv pip install --python '{prefix}' onnxruntime==1.26.0"


def test_uv_that_runs_this_is_named_where_it_is_no_program_of_the_path(
    here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here(".venv", UV, uv=False, files=("uv.lock", "pyproject.toml"))
    monkeypatch.setenv("UV", "/opt/uv")
    assert extra_command("ray") == "/opt/uv sync --inexact --extra ray"


def python(folder: Path, *, uv: bool) -> Path:
    """A Python that has the module uv, or has not."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python3").write_text(f'#!/bin/sh\n[ "$*" = "-m uv --version" ] && exit {int(not uv)}\nexit 3\n')
    (folder / "python3").chmod(0o755)
    return folder


def test_uv_may_be_a_module_of_the_python_that_a_shell_finds(
    here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prefix = here(".venv", UV, uv=False, files=("uv.lock", "pyproject.toml"))
    system = python(tmp_path / "system", uv=True)
    monkeypatch.setenv("PATH", f"/nowhere:{system}")
    assert extra_command("ray") == "python3 -m uv sync --inexact --extra ray"
    active = python(prefix / "bin", uv=False)  # hides the other
    monkeypatch.setenv("PATH", f"{active}:{system}")
    assert extra_command("ray") == f"{system}/python3 -m uv sync --inexact --extra ray"


@pytest.mark.parametrize("content", ["#!/nowhere/python\n", "#!/bin/sh\nexec /bin/sleep 60\n"])
def test_a_python_that_does_not_run_or_end_has_no_uv(
    here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    here(".venv", UV, uv=False, files=("uv.lock", "pyproject.toml"))
    system = python(tmp_path / "system", uv=True)
    (system / "python3").write_text(content)
    monkeypatch.setenv("PATH", str(system))
    monkeypatch.setattr(installing, "MOST_SECONDS", 0.2)
    assert "ensurepip" in extra_command("ray")


def test_without_any_uv_its_environment_gets_pip(here: Callable[..., Path]) -> None:
    own = f"{here('.venv', UV, uv=False, files=('uv.lock', 'pyproject.toml'))}/bin/python"
    assert extra_command("ray") == f"{own} -m ensurepip && {own} -m pip install 'rexnet-export[ray]'"


def test_pipx_runs_the_pip_of_its_environment(here: Callable[..., Path]) -> None:
    here("rexnet-export", VENV, files=("rexnet-export/pipx_metadata.json",))
    assert extra_command("sign") == "pipx runpip rexnet-export install 'rexnet-export[sign]'"


@pytest.mark.parametrize("active", [True, False])
def test_pip_is_this_environments(here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, *, active: bool) -> None:
    prefix = here("env", VENV, pip=True)
    (prefix / "bin" / "pip").touch(mode=0o755)
    if active:
        monkeypatch.setenv("PATH", str(prefix / "bin"))
    pip = "pip" if active else f"{prefix}/bin/python -m pip"
    assert extra_command("train") == f"{pip} install 'rexnet-export[train]'"


def test_conda_without_pip_gets_it_first(here: Callable[..., Path]) -> None:
    prefix = here("conda", files=("conda/conda-meta/history",))
    command = install_command("onnxruntime")
    assert command == f"conda install -y -p {prefix} pip && {prefix}/bin/python -m pip install onnxruntime"


def test_an_environment_without_pip_gets_it_first(here: Callable[..., Path]) -> None:
    python = f"{here('bare', VENV)}/bin/python"
    assert install_command("onnxruntime") == f"{python} -m ensurepip && {python} -m pip install onnxruntime"
