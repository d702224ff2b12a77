"""The comparison's own logic, on a small network, with a stand-in for the rivals' environment."""

import json
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import contenders
import networks
import numpy as np
import pytest
import quantizer_table
import quantizers
import torch
from depths import SHORT
from networks import Network
from quantizer_table import Result

from rexnet_export.pipeline.accuracy.evaluate import Accuracy, Logits
from rexnet_export.pipeline.accuracy.paired_statistics import sqnr_db
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import NotMeasured, Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.proof.latency import Latency

SIZE = 32
ACCURACY = Accuracy(n=100, top1=0.9, reference_top1=0.92, drop=0.02, drop_lower_95=0.01, drop_upper_95=0.05)
RESULT = Result(
    accuracy=ACCURACY,
    agreement=0.97,
    logit_sqnr_db=20.0,
    executed_by="it",
    seconds=1.5,
    peak_mib=7,
    versions={"a": "1"},
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = ReXNet(architecture(width=0.5, classes=10, stages=SHORT)).eval()
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d) and ".se." not in name:
            module.momentum = None  # the average of what it sees, so that logits depend on the image
            module.train()
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(16, 3, 1, 1) + torch.randn(16, 3, SIZE, SIZE))
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(
        path,
        network.eval(),
        labels=bundled("evaluation").class_names,
        preprocess=Preprocess(size=SIZE, crop_ratio=1.0),
        metadata={},
        half=False,
    )
    return path


@pytest.fixture(scope="module")
def prepared(checkpoint: Path) -> Network:
    given = Options(checkpoint=str(checkpoint), calibration_images=4, eval_images=12, output=checkpoint.parent / "out")
    return networks.prepare("small", given)


@pytest.fixture
def network(prepared: Network, tmp_path: Path) -> Network:
    """With a folder that holds no results yet."""
    return replace(prepared, folder=tmp_path)


def stand_in(path: Path, body: Sequence[str]) -> Path:
    """An executable in the place of the rivals' Python; it is called with the script's own arguments."""
    path.write_text("\n".join([f"#!{sys.executable}", "import json, pathlib, sys", *body]), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def copying(tmp_path: Path) -> Path:
    """Quantizes nothing: its output is the float model it was given; `ort-entropy` it cannot."""
    return stand_in(
        tmp_path / "copying",
        [
            "script, method, model, inputs, output = sys.argv[1:]",
            "if method == 'ort-entropy': sys.exit('no such thing')",
            "pathlib.Path(output).write_bytes(pathlib.Path(model).read_bytes())",
            "print('chatter')",
            "print(json.dumps({'seconds': 2.0, 'peak_mib': 5, 'versions': {'copying': '1'}}))",
        ],
    )


def float_logits(network: Network) -> Logits:
    return networks.open_onnx(network.float_onnx.path, (SIZE, SIZE)).run(network.pixels)


def test_a_core_behind_its_front_is_the_float_graph(network: Network, copying: Path) -> None:
    quantized = contenders.quantize("ort-min-max", network, copying)
    np.testing.assert_array_equal(quantized.session.run(network.pixels), float_logits(network))
    assert (quantized.seconds, quantized.peak_mib, quantized.versions) == (2.0, 5, {"copying": "1"})


def test_the_core_takes_the_inputs_it_is_calibrated_with(network: Network) -> None:
    import onnxruntime  # noqa: PLC0415

    model, inputs = networks.write_core(network, ".onnx")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": np.load(inputs)})
    reference = float_logits(network)
    assert np.abs(logits - reference).max() < 1e-4 * reference.std(axis=0).max()


@pytest.mark.slow
def test_a_tflite_core_between_its_ends_is_the_float_graph(network: Network, copying: Path) -> None:
    quantized = contenders.quantize("ai-edge", network, copying)
    reference = float_logits(network)
    assert np.abs(quantized.session.run(network.pixels) - reference).max() < 1e-3 * reference.std(axis=0).max()
    _, inputs = networks.write_core(network, ".tflite")
    assert np.load(inputs).shape == (4, SIZE, SIZE, 4)


@pytest.mark.slow
def test_our_files_come_from_one_export_and_are_close_to_the_float_graph(network: Network) -> None:
    tflite, ort = (contenders.quantize(name, network, Path("unused")) for name in ("tflite", "ort-x86"))
    assert tflite.seconds == ort.seconds
    for quantized in (tflite, ort):
        assert 5 < sqnr_db(float_logits(network), quantized.session.run(network.pixels)) < np.inf


def compared(network: Network, python: Path, *methods: str, rounds: int = 0) -> quantizer_table.Results:
    options = ["--rivals", str(python), "--latency-rounds", str(rounds), "--methods", *methods]
    return quantizers.compare(network, quantizers.parser().parse_args(options), Silent())


def test_one_that_fails_says_so_and_stops_nothing(network: Network, copying: Path) -> None:
    results = compared(network, copying, "ort-entropy", "ort-min-max")
    failed, fine = results["ort-entropy"], results["ort-min-max"]
    assert isinstance(failed, NotMeasured)
    assert "ort-entropy ended with no such thing" in failed.reason
    assert isinstance(fine, Result)
    assert (fine.agreement, fine.accuracy.drop, fine.accuracy.n) == (1.0, 0.0, 12)


def test_what_was_measured_of_a_rival_is_kept_until_its_settings_change(
    network: Network, copying: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compared(network, copying, "ort-min-max")
    gone = copying.with_name("gone")
    assert compared(network, gone, "ort-min-max") == first
    monkeypatch.setattr(contenders, "settings_digest", lambda: "others")
    again = compared(network, gone, "ort-min-max")["ort-min-max"]
    assert isinstance(again, NotMeasured)
    assert "--rivals" in again.reason


def test_our_own_row_is_measured_anew(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def exported(network: Network, *_: object) -> contenders.Quantized:
        asked.append(network.name)
        return contenders.Quantized(session=networks.open_onnx(network.float_onnx.path, (SIZE, SIZE)), seconds=1.0)

    monkeypatch.setattr(contenders, "_exported", exported)
    for _ in range(2):
        assert isinstance(compared(network, Path("unused"), "tflite")["tflite"], Result)
    assert len(asked) == 2


def test_times_are_over_those_of_the_float_graph(
    network: Network, copying: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(network, copying, "ort-min-max")

    def measure(sessions: Mapping[str, Session], *_: object, rounds: int) -> dict[str, Latency]:
        return {
            name: Latency(p50_ms=2.0 if name == "float" else 3.0, p90_ms=9.0, n=rounds, machine="it", samples_ms=())
            for name in sessions
        }

    monkeypatch.setattr(quantizers, "measure", measure)
    kept = copying.with_name("gone")
    result = compared(network, kept, "ort-min-max", rounds=3)["ort-min-max"]
    assert isinstance(result, Result)
    assert result.relative_time == 1.5


def test_other_calibration_images_are_kept_apart(prepared: Network, checkpoint: Path) -> None:
    output = prepared.folder.parent
    more = Options(checkpoint=str(checkpoint), calibration_images=5, eval_images=12, output=output)
    assert networks.prepare("small", more).folder != prepared.folder


def test_a_result_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert quantizer_table.load(path, "s") is None
    quantizer_table.save(RESULT, "s", path)
    assert quantizer_table.load(path, "s") == RESULT
    assert quantizer_table.load(path, "t") is None
    assert json.loads(path.read_text(encoding="utf-8"))["settings"] == "s"


def test_the_summary_has_a_row_for_each_method_and_a_column_for_each_network() -> None:
    found = {"one": {"b": RESULT, "a": NotMeasured(reason="why")}, "two": {"b": replace(RESULT, agreement=0.5)}}
    lines = quantizer_table.summary(found, {"a": "A", "b": "B", "c": "C"}).splitlines()
    assert lines == [
        "| top-1 / agreement / SQNR | one | two |",
        "| -- | -- | -- |",
        "| float | 92.00 (n = 100) | 92.00 (n = 100) |",
        "| A | failed | - |",
        "| B | 90.00 / 97.00 / 20.0 | 90.00 / 50.00 / 20.0 |",
    ]


def test_the_details_have_every_number_and_every_reason() -> None:
    text = quantizer_table.details({"a": NotMeasured(reason="why"), "b": RESULT}, {"a": "A", "b": "B"})
    assert "| B | 90.00% | 2.00 | 5.00 | 97.00% | 20.0 |  | 1.5 | 7 |" in text
    assert "A: not measured, why" in text


def test_only_what_was_timed_gets_a_time() -> None:
    timed = quantizer_table.timed({"a": RESULT, "b": RESULT}, {"a": 3.0}, 2.0)
    assert timed == {"a": replace(RESULT, relative_time=1.5), "b": RESULT}


def test_every_rival_has_a_title_and_a_function() -> None:
    import rivals  # noqa: PLC0415

    assert set(rivals.METHODS) == set(contenders.RIVALS)
