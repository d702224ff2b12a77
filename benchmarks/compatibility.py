"""Files of an export in runtimes of other people, each in an environment of its own; prints Markdown.

    python benchmarks/compatibility.py FOLDER [--images N] [--clients NAME ...] [--environments DIR] [--write FILE]

FOLDER is an INT8 export of the bundled network. Each client runs the file by its own means, at its defaults; what it
answers is compared with what this project's own session of the same file answers, image by image. A client that
cannot open a file is a row with its reason. pip and the registries are needed the first time.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.outputs import log_softmax
from rexnet_export.pipeline.core.records import Artifact, Preprocess, stored_file
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.pipeline.graph.plain import normalised
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.targets import TARGETS
from rexnet_export.targets.isolation.isolated_file import target_of

CLIENTS = Path(__file__).with_name("clients")
TIMEOUT, MEMORY = 600, 12 * 2**30


@dataclass(frozen=True, kw_only=True)
class Client:
    """A program, what its environment needs, and the endings of the files it is given."""

    program: str
    requirements: tuple[str, ...]
    files: tuple[str, ...]
    python: str = "3.12"
    npm: tuple[str, ...] = ()


PAGE = """# Compatibility

Files of one INT8 export in runtimes of other people, each in an environment of its own, at its defaults
(`python benchmarks/compatibility.py FOLDER`). "Same top-1" and the largest difference are to what this project's own
session of the same file gives: LiteRT 2.1.2 or ONNX Runtime 1.26.0. Integers differ by kernels, floats hardly.
CI asks MediaPipe, OpenVINO and Qualcomm's emulator, and says where one differs too much
(`python benchmarks/compatibility_check.py FOLDER`).

{table}

{count} images of the bundled network; {processor}.

- **MediaPipe and the Task Library** read the first head, `probabilities`; "pass 0.5" counts images on which as many
  classes reach the threshold as have that probability. With `--scores logits` logits are compared with it.
- **Qualcomm's HTP** is an emulation on x86; nothing was run on a phone. It takes the `npu` file alone.
- <a id="openvino"></a>**OpenVINO** says itself what it computes in INT8: `MODEL-int8.openvino` and
  `MODEL-int8.onnx` whole, most of the `.tflite`, next to nothing of the files for x86 and NPUs, which are UINT8
  throughout. What is float it computes in bfloat16 on processors that have it, unless it is asked for float32
  (`INFERENCE_PRECISION_HINT`), as here. **Without VNNI or AMX** x86 adds two products in 16 bits, and OpenVINO's INT8
  loses sums there: on an AMD EPYC with AVX2 alone the folder agreed with float on 97.40 % of 2,000 images, where it
  should on 99.75 %, and one class lost 5 points. Load it with the property `LP_TRANSFORMS_MODE` = `NO` on such
  processors: that gives what the file means, in 1.3 times the time. `rexnet-export`, `verify` and the gate do so
  where the plugin saturates, say so, and then time nothing.
- **MNN and ncnn** know no uint8 image and no quantized TFLite of this kind: give their converters
  `MODEL-float-nchw.onnx`, and quantize with their own tools. MNN's converter took 20 GB for an INT8 `.onnx`.
- **In a browser** `rexnet-bench serve` runs the same files; here onnxruntime-web's WebAssembly runs in Node.js.
"""
ORT_FILES = ("-int8.ort", "-int8-x86.ort", "-int8.onnx", "-int8-x86.onnx", "-int8-vnni.onnx", "-int8-npu.onnx")
KNOWN = {
    "litert": Client(program="litert.py", requirements=("ai-edge-litert==2.1.2",), files=(".tflite",)),
    "litert-newest": Client(program="litert.py", requirements=("ai-edge-litert",), files=(".tflite",)),
    "tflite-runtime": Client(
        program="litert.py", requirements=("tflite-runtime==2.14.0", "numpy<2"), files=(".tflite",), python="3.11"
    ),
    "mediapipe": Client(program="mediapipe_tasks.py", requirements=("mediapipe",), files=(".tflite",)),
    "task-library": Client(
        program="task_library.py", requirements=("tflite-support", "numpy<2"), files=(".tflite",), python="3.11"
    ),
    "ort-1.17": Client(program="onnx_runtime.py", requirements=("onnxruntime==1.17.3", "numpy<2"), files=ORT_FILES),
    "ort-1.20": Client(program="onnx_runtime.py", requirements=("onnxruntime==1.20.1",), files=ORT_FILES),
    "ort-newest": Client(program="onnx_runtime.py", requirements=("onnxruntime",), files=ORT_FILES),
    "qnn-htp": Client(
        program="qnn_htp.py",
        requirements=("onnxruntime", "onnxruntime-qnn"),
        files=("-int8.onnx", "-int8-x86.onnx", "-int8-npu.onnx"),
    ),
    "openvino": Client(
        program="open_vino.py",
        requirements=("openvino",),
        files=(".openvino", ".tflite", "-int8.onnx", "-int8-x86.onnx", "-int8-npu.onnx", "-float-nchw.onnx"),
    ),
    "ort-node": Client(
        program="onnx_runtime_js.py", requirements=("numpy",), files=ORT_FILES, npm=("onnxruntime-node",)
    ),
    "ort-web": Client(program="onnx_runtime_js.py", requirements=("numpy",), files=ORT_FILES, npm=("onnxruntime-web",)),
    "ncnn": Client(program="ncnn_runtime.py", requirements=("ncnn", "pnnx", "numpy"), files=("-float-nchw.onnx",)),
    "mnn": Client(
        program="mnn_runtime.py",
        requirements=("MNN", "numpy<2.3"),
        files=(".tflite", "-float-nchw.onnx"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one client made of one file; `same` is the share of images with the same best class, by the worst output."""

    client: str
    file: str
    runtime: str
    answer: str
    same: float | None = None


def main() -> int:
    flags = parser(__doc__, [*KNOWN], 500)
    flags.add_argument("--write", type=Path, metavar="FILE", help="also write the Markdown here")
    options = flags.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        images = images_for(options.folder, options.images)
        for name in options.clients:
            python = environment(KNOWN[name], options.environments / name)
            for file in files_for(KNOWN[name], options.folder):
                rows.append(asked(name, python, file, images, Path(scratch)))
                print(f"{rows[-1].client} {rows[-1].file}: {rows[-1].answer}", file=sys.stderr, flush=True)
    page = PAGE.format(table=table(rows), count=options.images, processor=processor())
    print(page)
    if options.write:
        options.write.write_text(page, encoding="utf-8")
    return 0


def parser(description: str | None, clients: Sequence[str], images: int) -> argparse.ArgumentParser:
    """What every script takes that asks `clients` about an export, by default on so many images."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path, help="an INT8 export of the bundled network")
    p.add_argument("--images", type=int, default=images, metavar="N", help="of the bundled evaluation images")
    p.add_argument("--clients", nargs="+", choices=clients, default=clients, metavar="NAME", help=", ".join(clients))
    p.add_argument("--environments", type=Path, default=Path("build/clients"), metavar="DIR", help="kept between runs")
    return p


def environment(client: Client, folder: Path) -> Path:
    """The Python of an environment with the client's requirements, made where it is not there yet."""
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        uv = [sys.executable, "-m", "uv"] if _has_uv() else ["uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", client.python, folder], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, *client.requirements], check=True)
        if client.npm:
            npm = shutil.which("npm") or sys.exit("npm is not installed")
            subprocess.run(
                [npm, "install", "--silent", "--no-audit", "--ignore-scripts", "--prefix", folder, *client.npm],
                check=True,
            )
        (folder / "ready").touch()
    return python.absolute()


def _has_uv() -> bool:
    return subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True, check=False).returncode == 0


def files_for(client: Client, folder: Path) -> Iterator[Path]:
    """Those of the folder that the client is given."""
    for ending in client.files:
        yield from sorted(path for path in folder.iterdir() if path.name.endswith(ending))


def images_for(folder: Path, count: int) -> NDArray[np.uint8]:
    """The first bundled evaluation images as the folder's files take them: uint8 [N, H, W, 3]."""
    return next(batches(bundled("evaluation"), _preprocess(folder), range(count), count))


def _preprocess(folder: Path) -> Preprocess:
    """As a file says that it takes images."""
    file = next(path for path in sorted(folder.iterdir()) if path.name.endswith("-int8.onnx"))
    artifact = Artifact(target="ort", precision="int8", file=stored_file(file))
    return card_from(TARGETS["ort"].inspect(artifact).metadata).preprocess


def asked(name: str, python: Path, file: Path, images: NDArray[np.uint8], scratch: Path) -> Row:
    """Run the client on the file, and compare."""
    plain = file.name.endswith("-nchw.onnx")
    pixels, out = scratch / ("plain.npy" if plain else "images.npy"), scratch / "out.npz"
    if not pixels.exists():
        np.save(pixels, normalised(images, _preprocess(file.parent)) if plain else images)
    out.unlink(missing_ok=True)
    command = [python, CLIENTS / KNOWN[name].program, file.absolute(), pixels, out]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=scratch, preexec_fn=_bounded
        )
    except subprocess.TimeoutExpired:
        return Row(client=name, file=file.name, runtime="", answer=f"no answer in {TIMEOUT} s")
    if done.returncode or not out.exists():
        return Row(client=name, file=file.name, runtime="", answer=f"does not run it: {_reason(done.stderr)}")
    found = re.search(r'\{"runtime".*?\}', done.stdout)  # Qualcomm's libraries write to stdout too, even when they end
    if found is None:
        return Row(client=name, file=file.name, runtime="", answer="does not say what it is")
    said = json.loads(found[0])
    with np.load(out) as arrays:
        answer, same = compared(file, images, {key: arrays[key] for key in arrays.files})
    return Row(client=name, file=file.name, runtime=f"{said['runtime']}, {said['where']}", answer=answer, same=same)


def _bounded() -> None:
    """One converter asked for 20 GB for an INT8 graph."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "no message")[:160].replace("|", "/")


def compared(file: Path, images: NDArray[np.uint8], outputs: dict[str, NDArray[np.float32]]) -> tuple[str, float]:
    """How the answers differ from this project's session of the file, on as many images as were answered.

    In words, and the smallest share of images with the same best class.
    """
    home = _home(file, images)
    scores = {name: values for name, values in outputs.items() if name != "passed"}
    parts, shares = [], []
    for name, values in scores.items():
        expected = home[: len(values)]
        same = float((values.argmax(1) == expected.argmax(1)).mean())
        shares.append(same)
        likely = np.exp(log_softmax(expected))
        kind = "logits" if name == "logits" else "probabilities"
        off = np.abs(values - (expected if kind == "logits" else likely)).max()
        parts.append(f"{name}: same top-1 {same:.1%} of {len(values)}, {kind} {off:.2g} apart at most")
    if "passed" in outputs:
        wanted = (np.exp(log_softmax(home)) >= 0.5).sum(1)
        parts.append(f"{int((outputs['passed'] == wanted).sum())} of {len(wanted)} images pass 0.5 as probabilities do")
    return "; ".join(parts), min(shares)


def _home(file: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    path = file if "-nchw" not in file.name else file.with_name(file.name.replace("-nchw", ""))
    target = TARGETS[target_of(path)]
    precision = "int8" if "-int8" in path.name else "fp32"
    return target.open(Artifact(target=target.name, precision=precision, file=stored_file(path))).run(images)


def table(rows: Sequence[Row]) -> str:
    lines = ["| client | file | answer |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.runtime or row.client} | `{row.file}` | {row.answer} |" for row in rows)])


if __name__ == "__main__":
    sys.exit(main())
