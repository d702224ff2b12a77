"""`rexnet-export --checkpoint OUT`: further targets of a finished export are those that it would have made itself."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from manifests import vouch

import rexnet_export
from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.finished.earlier import read_earlier
from rexnet_export.pipeline.finished.further import _images

MEASURED = {"report.json", "report.html", "sbom.cdx.json", "predictions.npz"}  # of another reference, at other times
# Whoever looks for torch finds none, as where it is not installed.
WITHOUT_TORCH = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *where):
        return None if name.partition(".")[0] == "torch" else self.finder.find_spec(name, *where)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def further(folder: Path, output: Path, *more: str) -> int:
    return main(["--checkpoint", str(folder), "--output", str(output), "--quiet", *more])


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def made(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every target that can be had of the graphs."""
    output = tmp_path_factory.mktemp("further") / "out"
    assert further(exported, output) == 0
    return output


def test_every_file_is_the_one_that_its_own_export_made(made: Path, exported: Path) -> None:
    found, own = manifest(made)["files"], manifest(exported)["files"]
    assert {"rexnet_050-int8.tflite", "rexnet_050-int8.mlpackage", "rexnet_050-int8-x86.ort"} <= found.keys()
    assert own.keys() - found.keys() == {"rexnet_050-fp32.safetensors"}
    for name in found.keys() - MEASURED:
        assert found[name] == own[name], name


def test_the_records_say_what_it_was_made_from(made: Path, exported: Path) -> None:
    digest = json.loads((exported / "provenance.intoto.json").read_text(encoding="utf-8"))["subject"]
    (wanted,) = [each["digest"]["sha256"] for each in digest if each["name"] == "manifest.json"]
    assert manifest(made)["inputs"]["checkpoint"]["file"] == "manifest.json"
    assert manifest(made)["inputs"]["checkpoint"]["sha256"] == wanted
    stated = json.loads((made / "provenance.intoto.json").read_text(encoding="utf-8"))["predicate"]["buildDefinition"]
    assert {"name": "manifest.json", "digest": {"sha256": wanted}} in stated["resolvedDependencies"]
    assert wanted in (made / "sbom.cdx.json").read_text(encoding="utf-8")


def test_the_report_says_who_ran_the_reference_and_who_compared_it(made: Path, exported: Path) -> None:
    found, own = report(made), report(exported)
    assert found["reference"]["executed_by"].endswith(", of the float graph (held to torch by an earlier export)")
    assert found["onnx_parity"] == own["onnx_parity"]
    assert found["calibration"]["source"] == "qparams.json of the earlier export, without calibrating"
    assert found["calibration"]["images_sha256"] == own["calibration"]["images_sha256"]
    assert "earlier export" in found["preprocess_check"]["not_measured"]
    assert found["notices"][0].startswith("made from the graphs of an earlier export")
    as_many = "measured on as many images as the earlier export, 48; --eval-images N asks for more"
    assert found["notices"][1] == as_many
    assert found["reference"]["images_sha256"] == own["reference"]["images_sha256"]
    assert found["stages"]["float"]["agreement_with_reference"] == 1.0
    for name, target in found["targets"].items():
        assert target["qparams_equal"] is True
        assert target["accuracy"]["n"] == 48
        assert target["accuracy"]["top1"] == own["targets"][name]["accuracy"]["top1"]


def test_fewer_images_than_the_earlier_exports_are_said(exported: Path) -> None:
    earlier = read_earlier(exported, Options())
    foreign = replace(earlier, card=replace(earlier.card, labels=tuple("abcdefghij")), images=5000)
    images, notices = _images(foreign, Options(), Silent())
    assert len(images.indices) == 512
    assert notices[0] == "measured on 512 images, the earlier export on 5,000; name its images with --eval-data DIR"
    same, notices = _images(replace(foreign, images=512), Options(), Silent())
    assert len(same.indices) == 512
    assert notices[0] == "measured on as many images as the earlier export, 512; --eval-images N asks for more"


def test_further_targets_of_further_targets(made: Path, exported: Path, tmp_path: Path) -> None:
    assert further(made, tmp_path / "out", "--target", "ort") == 0
    for name in ("rexnet_050-int8.ort", "rexnet_050-int8-vnni.onnx"):
        assert (tmp_path / "out" / name).read_bytes() == (exported / name).read_bytes()


def test_other_precisions_need_no_table(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert further(exported, tmp_path / "fp32", "--fp32", "--target", "ort") == 0
    assert "rexnet_050-fp32.ort" in manifest(tmp_path / "fp32")["files"]
    assert "qparams.json" not in manifest(tmp_path / "fp32")["files"]
    assert further(tmp_path / "fp32", tmp_path / "int8", "--target", "ort") == 2
    assert "holds no quantization table, as it was not exported in INT8" in capfd.readouterr().err
    assert further(tmp_path / "fp32", tmp_path / "again", "--fp32", "--target", "ort") == 0
    assert not (tmp_path / "int8").exists()


def test_it_is_made_again_and_compared(
    made: Path, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert further(exported, tmp_path / "ort", "--target", "ort") == 0
    assert main(["verify", str(tmp_path / "ort"), "--rebuild", str(exported)]) == 0
    assert "PASS: every file that can be compared is the same" in capfd.readouterr().out
    assert main(["verify", str(tmp_path / "ort"), "--rebuild", str(made), "--quiet"]) == 10
    assert "is not the export that" in capfd.readouterr().err


def test_files_are_proven_again(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(made), "--eval-images", "8", "--trace-images", "1", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["proven"] is True


# Without torch


def without_torch(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", f"{WITHOUT_TORCH}\n{code}\nassert 'torch' not in sys.modules"]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_neither_the_command_nor_the_call_needs_torch(exported: Path, tmp_path: Path) -> None:
    flags = ["--checkpoint", str(exported), "--target", "ort", "--eval-images", "48", "--quiet"]
    output = tmp_path / "command"
    ran = without_torch(
        "from rexnet_export.apps.export.command import main\n"
        f"assert main({[*flags, '--output', str(output)]}) == 0\n"
        "import rexnet_export\n"
        f"report = rexnet_export.export({str(exported)!r}, targets=['ort'], eval_images=48,"
        f" output={str(tmp_path / 'call')!r})\n"
        "assert report.targets['ort'].artifact.accuracy.n == 48\n"
        f"assert main(['verify', {str(output)!r}, '--rebuild', {str(exported)!r}, '--quiet']) == 0"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    for folder in ("command", "call"):
        name = "rexnet_050-int8.ort"
        assert (tmp_path / folder / name).read_bytes() == (exported / name).read_bytes()


@pytest.mark.parametrize("target", ["coreml", "all"])
def test_what_torch_executes_is_refused_before_any_work(exported: Path, tmp_path: Path, target: str) -> None:
    flags = ["--checkpoint", str(exported), "--target", target, "--output", str(tmp_path / "out"), "--quiet"]
    ran = without_torch(f"from rexnet_export.apps.export.command import main\nassert main({flags}) == 13")
    assert ran.returncode == 0
    (said,) = ran.stderr.splitlines()
    assert said.startswith("rexnet-export: executing Core ML packages here needs torch; run: ")
    assert "export" in said.partition("run: ")[2]
    assert not (tmp_path / "out").exists()


# What is refused


def test_torchs_own_target_is_refused_by_name_and_left_out_of_all(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert further(exported, tmp_path / "out", "--target", "gpu") == 2
    assert "--target gpu: it is written from weights" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--mean", "0.1"), "--mean 0.1 0.1 0.1: {folder} was exported with 0.5 0.5 0.5"),
        (("--image-size", "64"), "--image-size 64: {folder} was exported with 32"),
        (("--effort", "high"), "--effort high: {folder} is a finished export, which has decided that"),
        (("--regression",), "--regression: {folder} is a finished export"),
        (("--calibration-data", "."), "--calibration-data .: {folder} is a finished export"),
        (("--max-drop", "1"), "--max-drop 1.0: {folder} is a finished export"),
        (("--labels", "x.txt"), "--labels x.txt: {folder} is a finished export"),
    ],
)
def test_flags_that_contradict(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert further(exported, tmp_path / "out", "--target", "ort", *flags) == 2
    assert capfd.readouterr().err.startswith(f"rexnet-export: {said.format(folder=exported)}")
    assert not (tmp_path / "out").exists()


def test_flags_that_say_the_same_are_fine(exported: Path, tmp_path: Path) -> None:
    same = ("--mean", "0.5", "--std", "1", "1", "1", "--image-size", "32", "--crop-ratio", "1")
    assert further(exported, tmp_path / "out", "--fp32", "--target", "ort", *same) == 0


def test_its_own_folder_is_no_output(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert further(exported, exported, "--target", "ort") == 2
    assert f"--checkpoint {exported} is read there; name a folder outside it" in capfd.readouterr().err


def test_an_altered_folder_is_refused(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(exported, tmp_path / "copy")
    table = tmp_path / "copy" / "qparams.json"
    table.write_text(table.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    assert further(tmp_path / "copy", tmp_path / "out", "--target", "ort") == 12
    assert "qparams.json is not what manifest.json says" in capfd.readouterr().err


@pytest.fixture
def needed(exported: Path, tmp_path: Path) -> Path:
    """A copy of all that is read of a finished export, to be changed and vouched for again."""
    (copy := tmp_path / "copy").mkdir()
    for name in ("float.onnx", "equalized.onnx", "qdq.onnx"):
        for path in exported.glob(f"*-{name}"):
            shutil.copy(path, copy)
    for name in ("qparams.json", "report.json"):
        shutil.copy(exported / name, copy)
    return copy


def test_a_table_of_another_network_is_refused_whatever_vouches_for_it(
    needed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((needed / "qparams.json").read_text(encoding="utf-8"))
    (needed / "qparams.json").write_text(json.dumps(content | {"model_sha256": "0" * 64}), encoding="utf-8")
    assert further(vouch(needed), tmp_path / "out", "--target", "ort") == 12
    assert "the table belongs to" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["rexnet_050-qdq.onnx", "qparams.json"])
def test_what_this_release_writes_otherwise_is_refused(
    needed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    with (needed / name).open("ab") as stream:
        stream.write(b"\n")
    assert further(vouch(needed), tmp_path / "out", "--target", "ort") == 12
    assert f"{name} made again is not the one in {needed}" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_its_report_or_with_two_graphs(
    needed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(needed / "rexnet_050-float.onnx", needed / "other-float.onnx")
    assert further(vouch(needed), tmp_path / "out", "--target", "ort") == 12
    assert "has 2 float graphs" in capfd.readouterr().err
    (needed / "rexnet_050-float.onnx").unlink()
    assert further(vouch(needed), tmp_path / "out", "--target", "ort") == 12
    assert "says that it is 'rexnet_050'" in capfd.readouterr().err
    (needed / "report.json").unlink()
    assert further(vouch(needed), tmp_path / "out", "--target", "ort") == 12
    assert "has no report.json" in capfd.readouterr().err


def test_a_backbones_export_is_refused(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "backbone").mkdir()
    shutil.copy(exported / "report.json", tmp_path / "backbone" / "backbone.json")
    assert further(vouch(tmp_path / "backbone"), tmp_path / "out", "--fp32", "--target", "ort") == 2
    assert "is an export of a backbone, which is made from a checkpoint alone" in capfd.readouterr().err


def test_other_commands_want_the_checkpoint(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["backbone", "--checkpoint", str(exported), "--output", str(tmp_path / "out"), "--quiet"]) == 10
    assert "is a finished export, which `rexnet-export --checkpoint` alone takes" in capfd.readouterr().err


def test_the_call_takes_a_folder_too(exported: Path, tmp_path: Path) -> None:
    made = rexnet_export.export(exported, targets=["tflite"], eval_images=8, output=tmp_path / "out")
    assert made.reference.n == 8
    assert not any("as many images" in notice for notice in made.notices)
    file = made.targets["tflite"].artifact.file
    assert file.path.read_bytes() == (exported / "rexnet_050-int8.tflite").read_bytes()
