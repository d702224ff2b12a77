"""One bundle through every device that can be had here; prints the Markdown table of docs/devices.md.

    rexnet-bench bundle rexnet-export-out -o bundle.zip
    python benchmarks/devices.py bundle.zip [--arm64 FOLDER] [--python311 PYTHON] [--browser] [--results FOLDER]

`--arm64` is what benchmarks/arm64_root.py built, `--python311` a CPython 3.11 with tflite-runtime 2.14.0 and numpy 1.
sshd and adbd are started on loopback ports, and for `--browser` Debian's chromium without a screen. Durations are left
out: this tells what is computed, not how fast.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from browser import chromium, started
from servers import adbd, sshd

from rexnet_export.apps.bench.command import main as bench
from rexnet_export.apps.bench.result.result import read_result

EMULATED_IMAGES = "100"
TFLITE, X86, ARM = "rexnet_100-int8.tflite", "rexnet_100-int8-x86.ort", "rexnet_100-int8.ort"
PROCESSORS = ("cortex-a53", "cortex-a76", "max")
QUIET = ("--quiet", "--idle-wait", "0")
FEW_TIMED = ("--pairs", "2", "--block-runs", "2", "--images", EMULATED_IMAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--arm64", type=Path)
    parser.add_argument("--python311", type=Path)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--results", type=Path, default=Path("rexnet-bench-out"))
    options = parser.parse_args()
    print("| device | runtime | file | images | top-1 | same top-1 | largest, steps | mean, steps |")
    print("|--|--|--|--|--|--|--|--|")
    with ExitStack() as stack:
        for number, (title, flags) in enumerate(devices(options, stack)):
            folder = options.results / f"{number:02}"
            command = ["run", str(options.bundle), *flags, *QUIET, "--output", str(folder)]
            code = visited(command) if "browser" in flags else bench(command)
            if code not in (0, 4):
                raise SystemExit(f"{title}: exit code {code}")
            print(row(title, folder), flush=True)


def devices(options: argparse.Namespace, stack: ExitStack) -> Iterator[tuple[str, list[str]]]:
    for artifact in (TFLITE, X86, ARM):
        yield "local, x86-64", ["--artifact", artifact]
    if options.python311:
        yield "local, CPython 3.11, numpy 1", ["--python", str(options.python311), "--artifact", TFLITE]
    _, config, _ = stack.enter_context(sshd(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
    python = ["--python", sys.executable, "--artifact", TFLITE]
    yield "ssh, loopback sshd", ["--device", "ssh://board", "--ssh-config", str(config), *python]
    serial, _ = stack.enter_context(adbd())
    yield "adb, loopback adbd", ["--device", f"adb:{serial}", *python]
    if options.browser:
        for artifact in (TFLITE, X86, ARM):
            yield "browser, Chromium on x86-64", ["--device", "browser", "--artifact", artifact]
    if options.arm64:
        for processor in PROCESSORS:
            for module, artifact in (("ai_edge_litert", TFLITE), ("tflite_runtime", TFLITE), ("onnxruntime", ARM)):
                python = ["--python", str(options.arm64 / f"python-{processor}-{module}"), "--artifact", artifact]
                emulator = ["--emulator", f"qemu-aarch64 -cpu {processor}"]
                yield f"emulated ARM64, {processor}", [*python, *emulator, *FEW_TIMED]


def visited(command: list[str]) -> int:
    """The exit code of a run whose page is opened here."""
    with chromium() as launch, started(*command) as running:
        launch().new_page().goto(running.url)
        code, said = running.ended()
    print(said, file=sys.stderr)
    return code


def row(title: str, folder: Path) -> str:
    result = read_result(folder)
    parity, runtime = result["parity"], result["runtime"]
    step = parity["max_abs"] / parity["max_quant_steps"] if parity["max_quant_steps"] else None
    cells = (
        title,
        f"{runtime['name']} {runtime['version']}, {runtime['delegate_or_ep']}",
        runtime["options"]["artifact"].removeprefix("rexnet_100-int8"),
        parity["n"],
        f"{result['accuracy']['top1']:.2%}",
        f"{parity['top1_agreement']:.2%}",
        f"{parity['max_quant_steps']:.0f}",
        f"{parity['mean_abs'] / step:.2f}" if step else "0",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
