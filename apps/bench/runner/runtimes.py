"""The runtimes a device may have: each opens a model and runs one image at a time."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.runner.coreml import CoreMlSession
from rexnet_export.apps.bench.runner.failure import DAMAGED, NO_RUNTIME, RunnerError
from rexnet_export.apps.bench.runner.graph import Graph

LOGITS, PROBABILITIES = "logits", "probabilities"
INSTALL = {
    "ai_edge_litert": "pip install ai-edge-litert",
    "tflite_runtime": "pip install tflite-runtime 'numpy<2' (CPython 3.11 or older)",
    "onnxruntime": "pip install onnxruntime",
    "coremltools": "pip install coremltools (macOS)",
}
SUFFIXES = {
    ".tflite": ("ai_edge_litert", "tflite_runtime"),
    ".ort": ("onnxruntime",),
    ".onnx": ("onnxruntime",),
    ".mlpackage": ("coremltools",),
}


class Session(Protocol):
    """A model that is ready to run."""

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [1, S, S, 3] RGB -> float32 logits [classes]."""

    def graph(self, model: Path, folder: Path) -> Graph:
        """Count nodes, apart from anything that is timed; `folder` may hold a profile meanwhile."""


class Runtime(NamedTuple):
    """An imported runtime."""

    name: str
    version: str

    def open(self, model: Path, threads: int) -> Session:
        """Load a model and make it ready for its first image."""
        try:
            with _native_messages_hidden():
                if self.name == "onnxruntime":
                    return OrtSession(model, threads)
                if self.name == "coremltools":
                    return CoreMlSession(model)
                return TfliteSession(self.name, model, threads)
        except RunnerError:
            raise
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise RunnerError(
                f"{self.name} cannot open {model.name}: {reason}; make the bundle again", DAMAGED
            ) from error


class TfliteSession:
    """LiteRT, or tflite-runtime, with what each chooses by itself: XNNPACK, or the built-in kernels (2.14.0)."""

    def __init__(self, package: str, model: Path, threads: int) -> None:
        module = importlib.import_module(f"{package}.interpreter")
        self._interpreter = module.Interpreter(model_path=str(model), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._name, self._output = _scores({d["name"]: d["index"] for d in self._interpreter.get_output_details()})

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One image."""
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        return _logits(self._name, self._interpreter.get_tensor(self._output)[0])

    def graph(self, model: Path, folder: Path) -> Graph:  # noqa: ARG002
        """The interpreter lists its operators and the delegates' partitions, not which operators a partition holds."""
        try:
            operators = [str(entry["op_name"]) for entry in self._interpreter._get_ops_details()]
        except AttributeError:
            return Graph(None, None, None, {})
        partitions = operators.count("DELEGATE")
        executed_by = "XNNPACK" if partitions else "built-in kernels"
        taken = None if partitions else 0
        return Graph(len(operators) - partitions, taken, executed_by, {"delegate_partitions": partitions})


class OrtSession:
    """ONNX Runtime's CPU provider, INT8 kept as it is in the file."""

    def __init__(self, model: Path, threads: int) -> None:
        self._threads = threads
        self._session = self._open(model, None)
        self._name, _ = _scores({value.name: value for value in self._session.get_outputs()})

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One image."""
        return _logits(self._name, self._session.run([self._name], {"image": image})[0][0])

    def graph(self, model: Path, folder: Path) -> Graph:
        """One profiled run of a second session names the provider of every node."""
        session = self._open(model, folder / "profile")
        shape = [1 if isinstance(size, str) else int(size) for size in session.get_inputs()[0].shape]
        session.run(None, {"image": np.zeros([1, *shape[1:]], np.uint8)})
        profile = Path(session.end_profiling())
        events = json.loads(profile.read_text(encoding="utf-8"))
        profile.unlink()
        providers = [event["args"].get("provider", "") for event in events if event.get("cat") == "Node"]
        taken = sum(provider != "CPUExecutionProvider" for provider in providers)
        return Graph(len(providers), taken, ", ".join(sorted(set(providers))), {})

    def _open(self, model: Path, profile: Path | None) -> Any:  # noqa: ANN401 - the package is found at run time
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        return runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _scores(outputs: Mapping[str, Any]) -> tuple[str, Any]:
    """The output that logits are had from: themselves, or else the probabilities."""
    for name in (LOGITS, PROBABILITIES):
        if name in outputs:
            return name, outputs[name]
    raise RunnerError(f"the model gives {', '.join(outputs)}, not logits; make the bundle again", DAMAGED)


def _logits(name: str, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities are the logits but for one number added to all of an image."""
    return scores if name == LOGITS else np.log(np.maximum(scores, np.finfo(np.float32).tiny))


def find_runtime(suffix: str, wanted: str | None) -> Runtime:
    """The first runtime that runs such files and can be imported here, or the one that was asked for."""
    names = SUFFIXES.get(suffix, ())
    if wanted is not None and wanted not in names:
        raise RunnerError(f"{wanted} runs no {suffix} files; {' or '.join(names) or 'nothing'} does", NO_RUNTIME)
    reasons = []
    for name in (wanted,) if wanted is not None else names:
        try:
            return _imported(name)
        except Exception as error:  # noqa: BLE001, PERF203 - a runtime built for another numpy fails in its own ways
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            reasons.append(f"{name} ({reason}); install it with: {INSTALL[name]}")
    python = f"Python {platform.python_version()} on {platform.machine()}"
    raise RunnerError(f"no runtime for {suffix} files in {python}: " + "; or ".join(reasons), NO_RUNTIME)


def _imported(name: str) -> Runtime:
    with _native_messages_hidden():
        module = importlib.import_module(name)
        if name in ("ai_edge_litert", "tflite_runtime"):
            importlib.import_module(f"{name}.interpreter")
    return Runtime(name, _version(name, module))


def _version(name: str, module: ModuleType) -> str:
    found = getattr(module, "__version__", None)
    if found is not None:
        return str(found)
    metadata = importlib.import_module("importlib.metadata")
    try:
        return str(metadata.version(name.replace("_", "-")))
    except metadata.PackageNotFoundError:
        return "unknown"


@contextlib.contextmanager
def _native_messages_hidden() -> Iterator[None]:
    """Runtimes announce delegates, and numpy's ABI trouble, on file descriptor 2; failures are exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
