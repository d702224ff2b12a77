"""`rexnet-export info`: files say what they are, and what is none is one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.rexnet import RexNet
from tiny_checkpoints import tiny

from rexnet_export.apps.export.command import main


def told(reference: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["info", str(reference), "--json"]) == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_a_training_run_states_nothing_but_its_shapes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save(tiny(width=0.1).state_dict(), tmp_path / "run.pth")
    (file,) = told(tmp_path / "run.pth", capfd)["files"]
    assert (file["kind"], file["model"], file["classes"]) == ("checkpoint", "rexnet_010", 4)
    assert (file["network"]["variant"], file["network"]["width"]) == ("v1", 0.1)
    assert file["network"]["parameters"] == sum(each.numel() for each in tiny(width=0.1).parameters())
    assert "not_measured" in file["preprocess"]
    assert "not_measured" in file["labels"]


def test_every_artifact_of_a_folder_is_described(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = told(exported, capfd)["files"]
    table = {file["made_from"].get("table_sha256") for file in files if file["precision"] == "int8"}
    assert {file["format"] for file in files if file["kind"] == "artifact"} == {"coreml", "tflite", "ort"}
    assert len(table) == 1
    assert all(file["int8_mac_fraction"] == 1 for file in files if file["precision"] == "int8")


def test_outputs_are_those_that_each_file_declares(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for file in told(exported, capfd)["files"]:
        if file["kind"] == "artifact":
            scores = {"logits"} if file["file"].endswith("-npu.onnx") else {"logits", "probabilities"}
            assert scores <= set(file["outputs"]) or file["format"] == "coreml", file["file"]
            assert len(file["outputs"]) >= len(scores), file["file"]


def test_a_graph_between_the_stages_says_what_it_is(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shares = {"rexnet_050-qdq.onnx": ("int8", 1), "rexnet_050-float.onnx": ("fp32", 0)}
    for name, expected in shares.items():
        (file,) = told(exported / name, capfd)["files"]
        assert (file["precision"], file["int8_mac_fraction"]) == expected


def test_a_file_that_not_every_processor_computes_right_says_so(
    exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notes = {file["file"]: " ".join(file["notes"]) for file in told(exported, capfd)["files"]}
    (warned,) = [name for name, note in notes.items() if "overflow in silence" in note]
    assert warned.endswith("-vnni.onnx")
    assert "VNNI" in notes[warned]
    assert "session.x64quantprecision to 1" in notes[warned]


def test_what_all_files_share_is_said_once(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(exported)]) == 0
    out = capfd.readouterr().out
    assert out.count("  classes ") == 1
    assert out.count("  sha256 ") == out.count(" MB\n")


def test_a_bundle_says_what_is_in_it(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = told(bundle, capfd)
    assert found["files"] == []
    assert {file["runtime"] for file in found["bundle"]["files"]} >= {"tflite", "onnxruntime"}


def test_an_onnx_checkpoint_is_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = RexNet(width_mult=0.1, num_classes=3).eval()
    torch.onnx.export(network, (torch.zeros(1, 3, 64, 64),), tmp_path / "run.onnx", dynamo=False)
    capfd.readouterr()
    (found,) = told(tmp_path / "run.onnx", capfd)["files"]
    assert (found["kind"], found["classes"], found["preprocess_source"]) == ("checkpoint", 3, {"size": "graph"})


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("none.tflite", None, 10, "none.tflite"),
        ("text.tflite", b"text", 12, "text.tflite"),
        ("text.pth", b"text", 10, "text.pth"),
        ("text.zip", b"text", 11, "no bundle"),
        ("none.zip", None, 11, "No such file"),
        ("text.onnx", b"text", 12, "text.onnx"),
        ("qparams.json", b"{}", 2, "a record, no network"),
    ],
)
def test_what_is_none_is_one_line(
    name: str, content: bytes | None, code: int, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["info", str(tmp_path / name)]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_an_altered_artifact_is_refused_and_the_others_are_described(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    artifact = next(folder.glob("*.tflite"))
    content = bytearray(artifact.read_bytes())
    content[-1] ^= 1
    artifact.write_bytes(content)
    assert main(["info", str(folder), "--json"]) == 12
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert f"{artifact.name} is not what manifest.json says" in line
    found = json.loads(out)
    assert list(found["broken"]) == [artifact.name]
    assert {file["format"] for file in found["files"] if file["kind"] == "artifact"} == {"coreml", "ort"}


def test_nothing_named_is_not_this_folder(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", ""]) == 2
    assert "FILE is empty" in capfd.readouterr().err


def test_a_file_that_the_manifest_beside_it_does_not_know_so_is_noted(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("manifest.json", "rexnet_050-int8.tflite", "rexnet_050-fp32.safetensors"):
        shutil.copy(exported / name, tmp_path)
    note = "not what manifest.json beside it says; verify shows more"
    for name in ("rexnet_050-int8.tflite", "rexnet_050-fp32.safetensors"):
        (file,) = told(tmp_path / name, capfd)["files"]
        assert note not in file["notes"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for entry in manifest["files"].values():
        entry["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for name in ("rexnet_050-int8.tflite", "rexnet_050-fp32.safetensors"):
        (file,) = told(tmp_path / name, capfd)["files"]
        assert file["notes"][-1] == note
    assert main(["info", str(tmp_path / "rexnet_050-int8.tflite")]) == 0
    assert f"  note          {note}\n" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["report.html", "predictions.npz", "report.json"])
def test_a_record_is_called_one(name: str, exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(exported / name)]) == 2
    said = capfd.readouterr().err
    assert f"{name} is a record, no network" in said
    assert "ask about the folder that it is in" in said


def test_the_plain_form_of_the_float_graph_is_called_that(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(exported / "rexnet_050-float-nchw.onnx")]) == 2
    said = capfd.readouterr().err
    assert "plain form of the float graph" in said
    assert "ask about rexnet_050-float.onnx beside it" in said
