"""`rexnet-export backbone` from the command line: what it writes, and what it refuses."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from random_networks import random_network

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY
from rexnet_export.pipeline.core.records import Preprocess, stored_file
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.chains import chains
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.rewrites import ChannelScaling
from rexnet_export.quantization.table.table import Calibration
from rexnet_export.quantization.table.table_file import table_text

FEW = ["--effort", "fast", "--calibration-images", "48", "--eval-images", "6", "--quiet"]
OUTPUTS = ["features.2.residual", "features.4.residual", "features.10.residual", "features.15.residual"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone") / "out"
    assert main(["backbone", "--target", "ort", "--output", str(folder), *FEW]) == 0
    return folder


@pytest.mark.slow
def test_the_report_has_every_output_of_every_file(output: Path) -> None:
    report = json.loads((output / "backbone.json").read_text())
    assert report["model"]["name"] == "rexnet_100_features"
    assert [(f["name"], f["stride"], f["channels"]) for f in report["model"]["features"]] == list(
        zip(OUTPUTS, (4, 8, 16, 32), (38, 61, 128, 185), strict=True)
    )
    ort = report["targets"]["ort"]
    for file in (ort, *ort["presets"].values()):
        assert list(file["outputs"]) == OUTPUTS
        assert all(values["sqnr_db"] > 15 for values in file["outputs"].values())
        assert (file["int8_mac_fraction"], file["float_ops"]) == (1.0, [])
        for latency in (file["latency"], file["float_latency"]):  # a busy machine gives a reason
            assert latency.get("p50_ms", 0) > 0 or "the machine was busy" in latency["not_measured"]
        assert stored_file(output / file["artifact"]).sha256 == file["sha256"]
    assert ort["qparams_read"]["tensors"] > 100
    assert report["reference"]["n"] == 6
    assert max(each["largest_difference"] for each in report["onnx_parity"].values()) < 1e-3


@pytest.mark.slow
def test_the_manifest_names_every_file_and_verify_proves_them(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = json.loads((output / "manifest.json").read_text())["files"]
    assert set(files) == {path.name for path in output.iterdir()} - {"manifest.json", "provenance.intoto.json"}
    assert main(["verify", str(output), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert "backbone" in found["images"]["not_measured"]


@pytest.mark.slow
def test_its_own_table_makes_the_same_files(output: Path, tmp_path: Path) -> None:
    given = ["--qparams", str(output / "qparams.json"), "--eval-images", "2", "--quiet"]
    assert main(["backbone", "--target", "ort", "--output", str(tmp_path / "again"), *given]) == 0
    first, again = (json.loads((folder / "backbone.json").read_text()) for folder in (output, tmp_path / "again"))
    assert first["targets"]["ort"]["sha256"] == again["targets"]["ort"]["sha256"]


@pytest.mark.slow
def test_evaluation_images_need_no_classes(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (80, 70, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    given = ["--fp32", "--target", "ort", "--eval-data", str(tmp_path / "photos"), "--quiet"]
    assert main(["backbone", *given, "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "backbone.json").read_text())
    assert (report["reference"]["n"], report["calibration"]) == (3, {"not_measured": "only INT8 is calibrated"})
    assert all(each["sqnr_db"] > 100 for each in report["targets"]["ort"]["outputs"].values())


def test_help_offers_what_a_backbone_has(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["backbone", "--help"])
    said = capfd.readouterr().out
    words = set(re.split(r"[\s(){},]+", said))
    assert "{coreml,tflite,ort,openvino,all}" in said
    assert "rexnet-backbone-out" in words
    assert not {"gpu", "--labels", "--max-drop", "--regression", "rexnet-export-out", "report.json"} & words


@pytest.mark.slow
@pytest.mark.parametrize("written", [[], ["--output", "rexnet-export-out"], ["--config", "export.toml"]])
def test_files_go_where_they_were_sent(written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("export.toml").write_text('output = "rexnet-export-out"\n')
    assert main(["backbone", "--target", "ort", "--fp32", "--image-size", "32", *FEW, *written]) == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "rexnet-export-out" if written else "rexnet-backbone-out"
    }


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--target", "gpu"], 2, "--target gpu"),
        (["--labels", "names.txt"], 2, "a backbone has no classes"),
        (["--max-drop", "1"], 2, "a backbone has no classes"),
        (["--regression"], 2, "--regression: a backbone has no head that could give numbers; leave it out"),
        (["--scores", "logits"], 2, "--scores logits: a backbone has no classes"),
        (["--proof", "full"], 2, "--proof full: a backbone has no classes"),
        (["--eval-data", ".", "--eval-labels", "x.csv"], 2, "--eval-labels x.csv: a backbone has no classes"),
        (["--fp16", "--target", "ort"], 2, "--target ort has no fp16"),
        (["--eval-data", "nowhere"], 11, "does not exist"),
        (["--checkpoint", "nowhere.pth"], 10, "no checkpoint at"),
        (["--qparams", "nowhere.json"], 12, "nowhere.json"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    given: list[str], code: int, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["backbone", "--target", "ort", "--output", str(output), "--quiet", *given]) == code
    message = capfd.readouterr().err
    assert said in message
    assert len(message.strip().splitlines()) == 1
    assert not output.exists()


def carrying(folder: Path, *, rescaled: bool) -> Path:
    """A checkpoint with a table of its classifier's graph, made for that graph as it is or with an output rescaled."""
    network, preprocess = random_network("v1", 0.25), Preprocess(size=32)
    model = float_graph(network, preprocess)
    chain = {chain.name: chain for chain in chains(view(model))}["features.2.residual"]
    rewrites = (ChannelScaling(tensor=chain.name, factors=(2.0,) * chain.channels),) if rescaled else ()
    model = apply(model, rewrites)
    onnx.save(model, folder / "float.onnx")
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    calibration = Calibration(images_sha256="0" * 64, images=8, statistic="min-max", seed=0)
    table = decide(model, observe(folder / "float.onnx", [images], observed_tensors(model)), calibration)
    metadata = {QPARAMS_KEY: table_text(replace(table, rewrites=rewrites))}
    labels, path = bundled("evaluation").class_names, folder / "carrying.safetensors"
    save_checkpoint(path, network, labels=labels, preprocess=preprocess, metadata=metadata, half=False)
    return path


def test_a_carried_table_is_cut_and_used(tmp_path: Path) -> None:
    given = ["--checkpoint", str(carrying(tmp_path, rescaled=False)), "--eval-images", "4", "--quiet"]
    assert main(["backbone", "--target", "ort", *given, "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "backbone.json").read_text())
    assert report["calibration"]["source"] == "carrying.safetensors, without calibrating"
    assert report["targets"]["ort"]["outputs"]["features.2.residual"]["sqnr_db"] > 15


def test_a_carried_table_that_rescales_an_output_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = ["--checkpoint", str(carrying(tmp_path, rescaled=True)), "--eval-images", "4", "--quiet"]
    assert main(["backbone", "--target", "ort", *given, "--output", str(tmp_path / "out")]) == 2
    assert "rescales the backbone's own outputs; give --calibration-data" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
