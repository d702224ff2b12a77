from pathlib import Path

import pytest
from bundles import small_bundle
from small_export import FEW, small_checkpoint

from rexnet_export.apps.export.command import main


@pytest.fixture(autouse=True)
def not_on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where these tests run on GitHub Actions themselves, commands under test shall not know."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.safetensors")


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `--target all --int8`."""
    output = tmp_path_factory.mktemp("all") / "out"
    assert main(["--checkpoint", str(checkpoint), "--target", "all", "--int8", *FEW, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="session")
def bundle(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images and every artifact of `exported`, each its own baseline."""
    return small_bundle(exported, tmp_path_factory.mktemp("bundle") / "bundle.zip", "--baseline", str(exported))
