"""Where the compilers are: a folder of two packages beside the project's own environment, fetched when asked.

onnx2tf pins LiteRT 2.1.2, and plugins for NPUs come with 2.3. Nothing of Python is used of the newer package: its
compiler is a program, the plugins and the vendor's libraries are shared objects.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from rexnet_export.apps.export.npu.chips import Chip, Vendor
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.machine.cache_folder import cache_folder

NAME = "ai-edge-litert-2.3.0-onnxruntime-qnn-2.7.0"
SIZES = "122 MB to download, 309 MB on the disk"
LICENCES = (
    "ai-edge-litert 2.3.0 (Apache 2.0) and onnxruntime-qnn 2.7.0 (MIT; Qualcomm's libraries in it are under "
    "Qualcomm's own licence, onnxruntime_qnn/Qualcomm_LICENSE.pdf in the package)"
)
FETCH = "rexnet-export npu --fetch"
COMPILER = Path("ai_edge_litert/tools/apply_plugin_main")
PLUGINS = Path("ai_edge_litert/vendors")
QNN = Path("onnxruntime_qnn")
LPAI = "libQnnLpai.so"
PLATFORMS = ("manylinux_2_35_x86_64", "manylinux_2_27_x86_64")
WITHIN_S = 1800


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A folder with `ai_edge_litert` and, for Qualcomm, `onnxruntime_qnn` in it."""

    packages: Path

    @property
    def compiler(self) -> Path:
        """LiteRT's program that applies a plugin."""
        return self.packages / COMPILER

    def plugin(self, vendor: Vendor) -> Path:
        """The folder of a vendor's plugin."""
        return self.packages / PLUGINS / vendor.plugin

    def libraries(self, vendor: Vendor) -> tuple[Path, ...]:
        """Where a vendor's libraries may lie: its SDK's package, onnxruntime-qnn, and what LD_LIBRARY_PATH names."""
        sdk = self.packages / vendor.sdk
        own = sorted({path.parent for path in sdk.rglob("*.so*")}) if sdk.is_dir() else []
        named = [Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if part]
        return (*own, self.packages / QNN, *named)

    def has(self, vendor: Vendor) -> bool:
        """Whether what the vendor's plugin needs is in one of those folders."""
        return any(next(folder.glob(vendor.library), None) for folder in self.libraries(vendor))

    def versions(self) -> dict[str, str]:
        """The packages that are there, by name."""
        found = (path.name.removesuffix(".dist-info").rpartition("-") for path in self.packages.glob("*.dist-info"))
        wanted = {"ai_edge_litert", "onnxruntime_qnn"}
        return {
            name.replace("_", "-"): version
            for name, _, version in sorted(found)
            if name in wanted or name.startswith("ai_edge_litert_sdk")
        }

    @property
    def named(self) -> str:
        """The packages, in one line."""
        return ", ".join(f"{name} {version}" for name, version in self.versions().items())


def cache() -> Path:
    """Where the fetched environment is."""
    return cache_folder("npu") / NAME


def find(given: Path | None) -> Environment:
    """The environment that was given, or the fetched one; `TargetUnavailable` says how to get it."""
    if given is None and not cache().is_dir():
        raise TargetUnavailable(f"compiling for NPUs needs {LICENCES}: {SIZES}; run {FETCH}")
    root = given or cache()
    for packages in (root, *sorted(root.glob("lib/python3*/site-packages"))):
        if os.access(packages / COMPILER, os.X_OK):
            return Environment(packages=packages.resolve())
    raise TargetUnavailable(
        f"{root} has no {COMPILER}: "
        + ("install ai-edge-litert 2.3 or newer and onnxruntime-qnn there" if given else f"delete it and run {FETCH}")
    )


def find_for(chips: Iterable[Chip]) -> Environment:
    """The fetched environment, `TargetUnavailable` where it or what a chip's vendor brings besides is missing.

    For those who cannot ask the vendor's plugin yet, as what it is to compile is still to be made.
    """
    environment = find(None)
    for chip in chips:
        if not environment.has(chip.vendor):
            raise TargetUnavailable(
                f"{chip.named}: compiling for it needs {chip.vendor.needs}; where that is installed, name its folder "
                "in LD_LIBRARY_PATH"
            )
    return environment


def fetch(progress: Progress) -> Environment:
    """Install the pinned packages in the cache, by their digests, or find them there; it is whole or not there."""
    place = cache()
    if place.is_dir():
        return find(None)
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise TargetUnavailable("compilers for NPUs are programs for Linux on x86-64: compile there")
    progress.note(f"fetching {LICENCES}: {SIZES}, kept in {place}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".new-") as folder:
            new = Path(folder, "packages")
            with progress.stage("fetching compilers", 1, "environments") as bar:
                _install(new, Path(folder, "pip"))
                bar.advance()
            new.rename(place)
    except OSError as error:
        if place.is_dir():  # another run was faster
            return find(None)
        raise TargetUnavailable(f"{place} cannot be written ({error.strerror}); set XDG_CACHE_HOME") from error
    return find(None)


def _install(packages: Path, pip: Path) -> None:
    """By a pip of its own: the environment that this runs in may have none."""
    try:
        venv.create(pip, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise TargetUnavailable("this Python cannot make an environment with pip; install python3-venv") from error
    with as_file(files("rexnet_export.apps.export.npu") / "requirements.txt") as requirements:
        command = [
            *(str(pip / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--target", str(packages), "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("--python-version", "3.12", "--implementation", "cp", "-r", str(requirements)),
            *(word for name in PLATFORMS for word in ("--platform", name)),
        ]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise TargetUnavailable(f"pip did not end within {WITHIN_S} s; run {FETCH} again") from error
    if ended.returncode:
        said = next((line for line in ended.stderr.splitlines() if line.startswith("ERROR")), ended.stderr.strip())
        raise TargetUnavailable(
            f"pip cannot install the compilers ({said}); connect to a package index and try again, or make an "
            "environment by hand and name it with --environment"
        )


def alias(environment: Environment, vendor: Vendor, folder: Path) -> Iterator[Path]:
    """A folder that has what Qualcomm's plugin links and never calls, where no package has it.

    The backend for the low-power island is in the SDK alone. Another library under its name satisfies the loader, and
    whoever asked it for a backend would get the error that it has none.
    """
    system = environment.packages / QNN / "libQnnSystem.so"
    if any((place / LPAI).exists() for place in environment.libraries(vendor)) or not system.exists():
        return
    folder.mkdir(exist_ok=True)
    if not (folder / LPAI).exists():
        (folder / LPAI).symlink_to(system)
    yield folder
