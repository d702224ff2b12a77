"""An output folder is replaced whole, so it is none that the export reads from."""

import os
from pathlib import Path

import pytest

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.export.apart import require_apart
from rexnet_export.pipeline.export.options import Options

REFUSED = [
    ({"calibration_data": "photos", "output": "photos"}, "--calibration-data photos"),
    ({"calibration_data": "photos", "output": "photos/cat/out"}, "--calibration-data photos"),
    ({"eval_data": "photos", "output": "link"}, "--eval-data photos"),
    ({"eval_data": "pack/images.npz", "output": "pack"}, "--eval-data pack/images.npz"),
    ({"checkpoint": "pack/net.safetensors", "output": "pack"}, "--checkpoint pack/net.safetensors"),
    ({"checkpoint": "pack", "output": "pack"}, "--checkpoint pack/net.safetensors"),
    ({"checkpoint": "release", "output": "release"}, "--checkpoint release"),
    ({"checkpoint": "local-dir:pack", "output": "photos/../pack"}, "--checkpoint pack/net.safetensors"),
]
ALLOWED = [
    {"output": "pack"},
    {"calibration_data": "photos", "eval_data": "photos", "output": "photos-out"},
    {"calibration_data": "photos", "output": "."},
    {"eval_data": "pack/images.npz", "output": "pack/out"},
    {"checkpoint": "pack/net.safetensors", "output": "pack/out"},
    {"checkpoint": "release", "output": "."},
    {"checkpoint": "hf-hub:pack/rexnet", "output": "pack"},
    {"calibration_data": "\0", "output": "\0\0"},  # whoever opens it refuses it
]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos/cat").mkdir(parents=True)
    Path("pack").mkdir()
    Path("link").symlink_to("photos")
    Path("release").mkdir()
    Path("release", "manifest.json").touch()
    for name in ("images.npz", "net.safetensors"):
        Path("pack", name).touch()


def options(given: dict[str, str]) -> Options:
    return Options(**{name: value if name == "checkpoint" else Path(value) for name, value in given.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "named"), REFUSED)
def test_where_inputs_lie_is_refused(given: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError) as refused:
        require_apart(options(given))
    assert str(refused.value) == f"--output {given['output']}: {named} is read there; name a folder outside it"


@pytest.mark.parametrize("given", ALLOWED)
def test_elsewhere_is_not(given: dict[str, str]) -> None:
    require_apart(options(given))


@pytest.mark.parametrize("command", [[], ["backbone"]])
def test_the_commands_refuse_it_before_anything_is_read(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--checkpoint", "pack/net.safetensors", "--output", "pack"]) == 2
    assert "--output pack: --checkpoint pack/net.safetensors is read there" in capfd.readouterr().err
    assert sorted(path.name for path in Path("pack").iterdir()) == ["images.npz", "net.safetensors"]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("pack/net.safetensors", "pack/net.safetensors is no folder"),
        ("pack/net.safetensors/out/deeper", "pack/net.safetensors is no folder"),
        ("dangling", "dangling is no folder"),
    ],
)
def test_what_can_be_no_folder_is_refused_at_once(output: str, said: str) -> None:
    Path("dangling").symlink_to("nowhere")
    with pytest.raises(UsageError, match=f"--output {output}: {said}"):
        require_apart(Options(output=Path(output)))


def test_a_name_that_no_runtime_opens_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="a name there is no UTF-8, and runtimes open no such file; choose another"):
        require_apart(Options(output=Path(os.fsdecode(b"caf\xe9"), "out")))


def test_a_folder_that_may_not_be_written_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, _: path != Path("pack"))  # root may write anywhere
    require_apart(Options(output=Path("new/out")))
    with pytest.raises(UsageError, match="--output pack/out: pack cannot be written"):
        require_apart(Options(output=Path("pack/out")))
