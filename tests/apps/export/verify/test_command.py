"""`rexnet-export verify` as a person runs it, on files that are whole, damaged, mixed up or not ours."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from onnx import TensorProto, helper
from small_export import FEW, small_checkpoint

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.proof import verify as proof

IMAGES = ("--eval-images", "24", "--trace-images", "1")


def verified(capfd: pytest.CaptureFixture[str], *paths: Path, flags: Sequence[str] = ()) -> tuple[int, str, str]:
    """Exit code, standard output, and the one line on standard error."""
    code = main(["verify", *map(str, paths), *IMAGES, *flags])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return code, out, err


def found(capfd: pytest.CaptureFixture[str], *paths: Path) -> dict[str, Any]:
    _, out, _ = verified(capfd, *paths, flags=["--json"])
    content: dict[str, Any] = json.loads(out)
    schema = json.loads(resources.files("rexnet_export.apps.export.verify").joinpath("verify.schema.json").read_text())
    jsonschema.validate(content, schema)
    return content


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "release"))


def test_a_whole_release_is_proven(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = found(capfd, exported)
    assert content["proven"] is True
    assert {file["vouched_by"] for file in content["files"]} == {"manifest.json"}
    names = [file["name"] for file in content["files"]]
    assert names == [
        "rexnet_050-int8.mlpackage",
        "rexnet_050-int8.tflite",
        "rexnet_050-int8.ort",
        "rexnet_050-int8-x86.ort",
        "rexnet_050-int8-vnni.onnx",
        "rexnet_050-int8-npu.onnx",
        "rexnet_050-fp32.safetensors",
    ]
    for file in content["files"]:
        assert file["problems"] == []
        assert file["self_test"]["passed"] is True
        assert file["self_test"]["largest_steps"] in {0, None}
        if file["precision"] == "int8":
            assert file["holds_table"] is True
            assert file["int8_mac_fraction"] == 1.0
    assert content["logits"]["n"] == 24
    assert len(content["logits"]["pairs"]) == 21
    pairs = {tuple(pair["names"]): pair for pair in content["tensors"]}
    assert len(pairs) == 15 + 6
    against_float = pairs["float network", "rexnet_050-int8.tflite"]
    assert against_float["loss"]["sqnr_db"] < against_float["loss"]["source_db"]
    assert len(against_float["traces"]["tensors"]) > 50


def test_a_file_that_lies_about_its_checkpoint_is_not_believed(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = copy / "rexnet_050-int8.tflite"
    content, digest = path.read_bytes(), json.loads((copy / "report.json").read_text())["model"]["checkpoint_sha256"]
    assert content.count(digest.encode()) == 1
    path.write_bytes(content.replace(digest.encode(), b"0" * 64))
    code, out, err = verified(capfd, copy, flags=["--json"])
    assert code == 12
    assert "rexnet_050-int8.tflite: its content is not what manifest.json says" in err
    assert json.loads(out)["proven"] is False


def test_a_file_the_manifest_does_not_know(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = copy / "rexnet_050-int8.tflite"
    code, out, err = verified(capfd, Path(shutil.copy(path, copy / "added[bold].tflite")))
    assert code == 12
    assert re.search(r"added\[bold\].tflite\s+FAIL\s+same\s+held", out)
    assert "added[bold].tflite: manifest.json beside it does not know it" in err


def test_people_see_tables(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = verified(capfd, exported / "rexnet_050-int8.tflite", exported / "rexnet_050-int8.ort")
    assert (code, err) == (0, "")
    for words in (
        "self-test",
        "sound",
        "same",
        "held",
        "100%",
        "LiteRT",
        "pairs, by their logits",
        "tensors on 1 image",
    ):
        assert words in out
    assert out.splitlines()[-1].startswith("PASS: 2 files are what was written")
    assert verified(capfd, exported / "rexnet_050-int8.ort", flags=["--quiet"]) == (0, "", "")


def test_tables_that_are_the_same_are_one(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = [f"rexnet_050-int8{ending}" for ending in ("-x86.ort", "-vnni.onnx")]
    _, out, _ = verified(capfd, *(exported / name for name in names))
    pairs = "; ".join(f"float network ~ {name}" for name in names)
    assert pairs in " ".join(out.split())


def test_images_that_serve_no_file_are_refused_before_one_is_run(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "examine", None)
    for folder in (tmp_path, tmp_path / "none"):
        code, _, err = verified(capfd, exported / "rexnet_050-int8.ort", flags=["--eval-data", str(folder)])
        assert code == 11
        assert str(folder) in err


def test_a_file_alone_is_consistent_with_itself(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = Path(shutil.copytree(exported / "rexnet_050-int8.mlpackage", tmp_path / "shipped.mlpackage"))
    content = found(capfd, alone)
    (file,) = content["files"]
    assert file["self_test"]["passed"] is True
    assert content["proven"] is False
    assert "consistent with itself only" in file["vouched_by"]["not_measured"]
    assert file["executed_by"]
    assert "no qparams.json" in file["holds_table"]["not_measured"]
    assert "nothing to compare with" in content["tensors"]["not_measured"]
    assert verified(capfd, alone)[1].splitlines()[-1].startswith("PASS, consistent but not proven: 1 file is")


def test_an_expected_digest_vouches(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone = Path(shutil.copy(exported / "rexnet_050-int8.ort", tmp_path))
    digest = hashlib.sha256(alone.read_bytes()).hexdigest()
    _, out, _ = verified(capfd, alone, flags=["--json", "--expect", digest.upper()])
    assert json.loads(out)["proven"] is True
    assert json.loads(out)["files"][0]["vouched_by"] == "--expect"
    code, _, err = verified(capfd, alone, flags=["--expect", "0" * 64])
    assert code == 12
    assert digest in err
    manifest = hashlib.sha256((exported / "manifest.json").read_bytes()).hexdigest()
    assert verified(capfd, exported, flags=["--quiet", "--expect", manifest])[0] == 0
    for paths, words in (([exported], "0" * 63), ([exported, alone], "0" * 64)):
        assert main(["verify", *map(str, paths), "--expect", words]) == 2


def flip(path: Path, tensor_bytes: bytes, at: int) -> None:
    """Change some bytes in the middle of a stored tensor."""
    content = bytearray(path.read_bytes())
    start = content.find(tensor_bytes)
    assert start >= 0
    for offset in range(start + at, start + at + 8):
        content[offset] ^= 0x15
    path.write_bytes(bytes(content))


def stored_weights(release: Path, tensor: str) -> bytes:
    """The integers of a tensor in ONNX layout; a 1 x 1 convolution's are the same in every format."""
    graph = onnx.load(release / "rexnet_050-qdq.onnx").graph
    (found_,) = (onnx.numpy_helper.to_array(t) for t in graph.initializer if t.name == f"{tensor}.q")
    content: bytes = found_.tobytes()
    return content


@pytest.mark.parametrize(
    "member",
    [
        "rexnet_050-int8.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
        "rexnet_050-int8.tflite",
        "rexnet_050-int8.ort",
        "rexnet_050-int8-x86.ort",
        "rexnet_050-int8-vnni.onnx",
    ],
)
def test_damaged_weights_are_named(copy: Path, member: str, capfd: pytest.CaptureFixture[str]) -> None:
    weights = stored_weights(copy, "features.4.expand.weight")
    if "vnni" in member:
        flip(copy / member, weights[:16], at=4)  # of the first row: behind each stand zeros
    else:
        flip(copy / member, bytes(w ^ 0x80 for w in weights) if "x86" in member else weights, at=40)  # x86: unsigned
    code, out, err = verified(capfd, copy, flags=["--json"])
    assert code == 12
    assert "1 of 7 files failed" in err
    assert Path(member).parts[0] in err
    content = json.loads(out)
    (damaged,) = (file for file in content["files"] if file["problems"])
    assert any("features.4.expand.weight is not what the exporter wrote" in p for p in damaged["problems"])
    assert any("manifest.json" in problem for problem in damaged["problems"])


def test_a_cut_file_is_one_line(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = copy / "rexnet_050-int8.tflite"
    path.write_bytes(path.read_bytes()[:20000])
    code, out, err = verified(capfd, path)
    assert code == 12
    assert len(err.strip().splitlines()) == 1
    assert "rexnet_050-int8.tflite" in err
    assert "no file is fit to be run" in out


def test_a_missing_member_of_a_package(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = copy / "rexnet_050-int8.mlpackage"
    (package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").unlink()
    code, _, err = verified(capfd, package)
    assert code == 12
    assert "rexnet_050-int8.mlpackage" in err


def test_another_table_beside_the_files(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = copy / "qparams.json"
    table.write_text(table.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    code, _, err = verified(capfd, copy / "rexnet_050-int8.tflite")
    assert code == 12
    assert "built from another table" in err


def test_files_of_different_checkpoints_are_not_mixed(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = small_checkpoint(tmp_path / "other.safetensors", seed=1)
    arguments = [
        "--checkpoint",
        str(other),
        "--target",
        "gpu",
        "--fp32",
        *FEW,
        "--output",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert main(arguments) == 0
    code, _, err = verified(capfd, exported / "rexnet_050-int8.tflite", tmp_path / "out")
    assert code == 2
    assert "different checkpoints" in err


@pytest.mark.slow
def test_files_of_logits_and_of_probabilities_are_compared_alike(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    targets = ("--target", "ort", "--target", "gpu")
    arguments = ["--checkpoint", str(checkpoint), *targets, *FEW, "--scores", "probabilities"]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--quiet"]) == 0
    content = found(capfd, tmp_path / "out")
    assert content["proven"] is True
    pairs = {tuple(pair["names"]): pair for pair in content["logits"]["pairs"]}
    same = pairs["rexnet_050-int8-x86.ort", "rexnet_050-int8-npu.onnx"]  # both UINT8, one without probabilities
    assert same["largest"] < 1e-4
    assert max(pair["largest"] for pair in pairs.values()) < 1
    assert {pair["steps"]["not_measured"] for pair in pairs.values()} == {
        "a file gives probabilities alone, so all are compared by their logarithm"
    }


def test_a_foreign_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "foreign", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "f.onnx")
    code, _, err = verified(capfd, tmp_path / "f.onnx")
    assert code == 12
    assert "f.onnx" in err


def test_some_images_are_enough_unless_more_are_asked_for(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = str(exported / "rexnet_050-int8-x86.ort")
    for flags, images in (([], 500), (["--eval-images", "520"], 520)):
        assert main(["verify", file, "--trace-images", "1", "--json", *flags]) == 0
        assert json.loads(capfd.readouterr().out)["logits"]["n"] == images


def test_bad_words(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert verified(capfd, tmp_path / "nowhere")[0] == 2
    assert main(["verify", str(exported), "--eval-images", "0"]) == 2
    assert "--eval-images 0" in capfd.readouterr().err
    assert main(["verify", str(exported / "rexnet_050-int8.ort"), "--eval-data", str(tmp_path)]) == 11
    assert main(["verify", str(exported), "--eval-labels", "l.csv"]) == 2
    assert "--eval-labels l.csv: name the images' folder with --eval-data" in capfd.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["verify"])
    assert stopped.value.code == 2


def test_images_in_one_folder_have_their_labels_in_a_list(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = bundled("evaluation")
    assert source.labels is not None
    assert source.class_names is not None
    names = source.class_names
    for index in range(6):
        source.load(index).save(tmp_path / f"{index}.png")
    lines = [f"{index}.png,{names[source.labels[index]]}" for index in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["filename,label", *lines]), encoding="utf-8")
    file = str(exported / "rexnet_050-int8.ort")
    arguments = ["verify", file, "--eval-data", str(tmp_path), "--eval-labels", str(tmp_path / "list.csv"), "--json"]
    assert main(arguments) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["logits"]["n"] == 6
    assert isinstance(found["logits"]["top1"]["rexnet_050-int8.ort"], float)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--rebuild", "net.pth", "--expect", "12"], "--expect 12"),
        (["--rebuild", "net.pth", "--eval-images", "9"], "--eval-images 9"),
        (["--labels", "l.txt"], "--labels l.txt"),
        (["--calibration-data", "photos"], "--calibration-data photos"),
        (["--qparams", "q.json"], "--qparams q.json"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(
    flags: list[str], named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "anything", *flags]) == 2
    assert capfd.readouterr().err.startswith(f"rexnet-export verify: {named}: ")
