from pathlib import Path

import pytest
from bundles import small_bundle
from shared import shared
from small_export import FEW, small_checkpoint

from rexnet_export.apps.export.command import main


@pytest.fixture(autouse=True)
def not_on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where these tests run on GitHub Actions themselves, commands under test shall not know."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def save(folder: Path) -> None:
        folder.mkdir()
        small_checkpoint(folder / "small.safetensors")

    return shared(tmp_path_factory, "checkpoint", save) / "small.safetensors"


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `--target all --int8`."""

    def export(folder: Path) -> None:
        flags = ["--checkpoint", str(checkpoint), "--target", "all", "--int8", *FEW]
        assert main([*flags, "--output", str(folder)]) == 0

    return shared(tmp_path_factory, "exported", export)


@pytest.fixture(scope="session")
def bundle(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images and every artifact of `exported`, each its own baseline."""

    def make(folder: Path) -> None:
        folder.mkdir()
        small_bundle(exported, folder / "bundle.zip", "--baseline", str(exported))

    return shared(tmp_path_factory, "bundle", make) / "bundle.zip"
