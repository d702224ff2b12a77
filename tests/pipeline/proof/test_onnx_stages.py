"""Which graphs are stages of their own, and that an export runs and reports every one of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_export import FEW, small_checkpoint

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import StoredFile, file_sha256
from rexnet_export.pipeline.proof.onnx_stages import GraphSession, chain, stages


def stored(digest: str) -> StoredFile:
    return StoredFile(path=Path(f"{digest}.onnx"), sha256=digest * 64, bytes=1)


def test_a_graph_that_was_not_rewritten_is_no_stage() -> None:
    assert list(chain(stored("a"), None, None)) == ["float"]
    assert list(chain(stored("a"), stored("a"), stored("c"))) == ["float", "quantized"]
    assert list(chain(stored("a"), stored("b"), stored("c"))) == ["float", "equalized", "quantized"]


def test_images_are_run_a_few_at_a_time_and_kept_in_order() -> None:
    seen = []

    def runner(images: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(len(images))
        return {"logits": images.reshape(len(images), -1)[:, :1].astype(np.float32)}

    images = np.arange(19, dtype=np.uint8).reshape(19, 1, 1, 1)
    session = GraphSession(runner=runner, executed_by="a fake")
    assert session.run(images).ravel().tolist() == list(range(19))
    assert sorted(seen) == [3, 8, 8]  # side by side, so in any order
    assert not session.timed


def test_a_graph_is_opened_when_it_is_run(tmp_path: Path) -> None:
    (network,) = stages({"float": StoredFile(path=tmp_path / "none.onnx", sha256="0" * 64, bytes=1)}).values()
    assert network.executed_by.startswith("ONNX Runtime ")
    with pytest.raises(ConversionError, match=r"none\.onnx"):
        network.open()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    checkpoint = small_checkpoint(folder / "small.safetensors")
    flags = ["--checkpoint", str(checkpoint), "--target", "ort", "--int8", *FEW, "--quiet"]
    assert main([*flags, "--output", str(folder / "out")]) == 0
    return folder / "out"


@pytest.mark.slow
def test_an_export_reports_every_graph(output: Path) -> None:
    report = json.loads((output / "report.json").read_text())
    predictions = np.load(output / "predictions.npz", allow_pickle=False)
    assert {"float", "quantized"} <= set(report["stages"]) <= {"float", "equalized", "quantized"}
    for name, stage in report["stages"].items():
        chosen = predictions[f"onnx-{name}"].argmax(1)
        assert stage["sha256"] == file_sha256(output / stage["file"])
        assert stage["executed_by"].startswith("ONNX Runtime ")
        assert stage["top1"] == pytest.approx((chosen == predictions["labels"]).mean())
        assert stage["agreement_with_reference"] == (chosen == predictions["reference"].argmax(1)).mean()
    assert report["stages"]["float"]["agreement_with_reference"] == 1.0
    assert len(report["reference"]["images_sha256"]) == 64
