"""The runner's part on a Mac, with coremltools' own classes around what only Core ML itself has."""

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coremltools
import numpy as np
import pytest
from compute_plans import block, operation, plan
from coremltools.models.compute_plan import MLComputePlan
from PIL import Image

from rexnet_export.apps.bench.runner.coreml import CoreMlSession, planned
from rexnet_export.apps.bench.runner.failure import RunnerError
from rexnet_export.apps.bench.runner.runtimes import Runtime

NO_RUNTIME = 13

OPERATIONS = [operation("weight"), operation("conv"), operation("mul"), operation("cast"), operation("pool")]
WHERE = {"conv": "neural engine", "mul": "neural engine", "pool": "gpu", "cast": "cpu"}


def test_units_of_a_plan() -> None:
    graph = planned(plan(OPERATIONS, WHERE))
    assert (graph.total_nodes, graph.delegated_nodes) == (4, 3), "constants run nowhere"
    assert graph.executed_by == "Core ML (cpu, gpu, neural engine)"
    assert graph.notes == {"planned_for_neural_engine": 2, "planned_for_gpu": 1, "planned_for_cpu": 1}


def test_operations_inside_a_condition_are_counted() -> None:
    nested = [operation("if", block(OPERATIONS), block([operation("other")]))]
    assert planned(plan(nested, WHERE | {"if": "cpu", "other": "cpu"})).total_nodes == 6


class Model:
    """`MLModel` where there is Core ML: the mean of each channel of the picture."""

    compute_unit = coremltools.ComputeUnit.ALL

    def __init__(self, path: str) -> None:
        self.path = path

    def predict(self, inputs: dict[str, Image.Image]) -> dict[str, Any]:
        assert inputs["image"].mode == "RGB"
        return {"logits": np.asarray(inputs["image"], np.float64).mean((0, 1))[None], "classLabel": "a"}

    def get_compiled_model_path(self) -> str:
        return f"{self.path}c"


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(coremltools.models, "MLModel", Model)
    return monkeypatch


def test_session_predicts_and_asks_for_the_plan_of_what_it_loaded(on_a_mac: pytest.MonkeyPatch) -> None:
    asked = []

    def load_from_path(path: str, compute_units: object) -> SimpleNamespace:
        asked.append((path, compute_units))
        return plan(OPERATIONS, WHERE)

    on_a_mac.setattr(MLComputePlan, "load_from_path", load_from_path)
    session = Runtime("coremltools", "9.0").open(Path("m.mlpackage"), 1)
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    answer = session.run(image)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, image[0].mean((0, 1)), rtol=1e-6)
    assert session.graph(Path("m.mlpackage"), Path()).delegated_nodes == 3
    assert asked == [("m.mlpackagec", coremltools.ComputeUnit.ALL)]


@pytest.mark.usefixtures("on_a_mac")
def test_core_ml_without_a_plan_is_said_and_no_failure() -> None:
    """Linux's coremltools answers as a macOS older than 14.4 does."""
    graph = CoreMlSession(Path("m.mlpackage")).graph(Path("m.mlpackage"), Path())
    assert (graph.total_nodes, graph.delegated_nodes, graph.executed_by) == (None, None, "Core ML")
    assert "not supported" in str(graph.notes["no_compute_plan"])


def test_an_older_coremltools_has_no_plans(on_a_mac: pytest.MonkeyPatch) -> None:
    on_a_mac.setitem(sys.modules, "coremltools.models.compute_plan", None)
    graph = CoreMlSession(Path("m.mlpackage")).graph(Path("m.mlpackage"), Path())
    assert graph.total_nodes is None
    assert "compute_plan" in str(graph.notes["no_compute_plan"])


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML runs here")
def test_elsewhere_it_is_refused() -> None:
    with pytest.raises(RunnerError, match="runs on macOS only") as caught:
        CoreMlSession(Path("m.mlpackage"))
    assert caught.value.exit_code == NO_RUNTIME
