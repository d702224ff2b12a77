"""Build an ARM64 Linux under a folder, to run the device runner on ARM kernels without a device; needs root.

    apt-get install qemu-user-static debootstrap
    python benchmarks/arm64_root.py FOLDER

Debian packages are unpacked, never started; wheels are unzipped beside them. For every processor and runtime a script
`python-CPU-RUNTIME` is written that acts as that device's Python (`rexnet-bench run --python`).
"""

import argparse
import subprocess
import tempfile
import zipfile
from pathlib import Path

PROCESSORS = ("cortex-a53", "cortex-a76", "max")
RUNTIMES = {
    "ai_edge_litert": "ai-edge-litert==2.1.2",
    "tflite_runtime": "tflite-runtime==2.14.0",
    "onnxruntime": "onnxruntime==1.26.0",
}
NUMPY = "numpy==1.26.4"  # tflite-runtime was built for numpy 1
MIRROR = "http://deb.debian.org/debian"
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "manylinux_2_34_aarch64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    build_root(folder / "root")
    for module, package in RUNTIMES.items():
        unzip_wheels((package, NUMPY), folder / "site" / module)
        for processor in PROCESSORS:
            write_python(folder, processor, module)


def build_root(root: Path) -> None:
    if (root / "usr/bin/python3.11").exists():
        return
    include = "--include=python3,libgomp1,libstdc++6"
    options = ["--foreign", "--arch=arm64", "--variant=minbase", include]
    subprocess.run(["debootstrap", *options, "bookworm", str(root), MIRROR], check=True)  # noqa: S607
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)  # noqa: S607


def unzip_wheels(packages: tuple[str, ...], site: Path) -> None:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    with tempfile.TemporaryDirectory() as wheels:
        # Any pip will do: what it downloads is for another machine, and an environment made by uv has none.
        pip = ["pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", wheels]
        version = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
        subprocess.run([*pip, *platforms, *version, *packages], check=True)
        for wheel in Path(wheels).glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(site)


def write_python(folder: Path, processor: str, module: str) -> None:
    script = folder / f"python-{processor}-{module}"
    emulator = f"qemu-aarch64-static -cpu {processor} -E PYTHONPATH='{folder}/site/{module}' -L '{folder}/root'"
    script.write_text(f"#!/bin/sh\nexec {emulator} '{folder}/root/usr/bin/python3.11' \"$@\"\n")
    script.chmod(0o755)


if __name__ == "__main__":
    main()
