"""`rexnet-export --npu`: refused before anything is made, compiled after everything is, and beside a whole export."""

import json
import shutil
from pathlib import Path

import pytest
from compiled_files import environment
from manifests import vouch
from small_export import FEW

import rexnet_export
from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.npu.environment import cache
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable, UsageError

SUPPORT = Path(__file__).parents[3] / "support"
COMPILES = f"""sys.path.insert(0, {str(SUPPORT)!r})
from compiled_files import compiled
chip = flags['soc_model']
made = compiled(pathlib.Path(flags['model']), chip, outside=1 if chip == 'SM8750' else 0)
pathlib.Path(flags['o']).write_bytes(made)"""
FILE = "rexnet_050-int8.tflite"


@pytest.fixture
def fetched() -> None:
    environment(cache(), COMPILES)


def given(checkpoint: Path, output: Path, *more: str) -> list[str]:
    return ["--checkpoint", str(checkpoint), "--target", "tflite", *FEW, "--output", str(output), *more]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["SM8560"], 2, "--npu 'SM8560': no chip of that name; did you mean SM8850?"),
        (["SM8650,,SM8750"], 2, "--npu 'SM8650,,SM8750': an entry is missing"),
        ([""], 2, "--npu '': an entry is missing"),
        (["SM8650", "--fp16"], 2, "leave out --fp16"),
        (["SM8650", "--target", "ort", "--target", "gpu"], 2, "add --target tflite"),
        (["all"], 13, "run rexnet-export npu --fetch"),
        (["SM8650", "--target", "ort", "--target", "tflite"], 13, "run rexnet-export npu --fetch"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: list[str], code: int, said: str
) -> None:
    assert main(["--npu", *flags, "--output", str(tmp_path / "out")]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("fetched")
def test_a_compiler_that_lacks_its_libraries_is_found_before_the_export(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--npu", "SM8650,mt6989", "--checkpoint", "none.safetensors", "--output", str(tmp_path / "out")]
    assert main(arguments) == 13
    (line,) = capfd.readouterr().err.splitlines()
    assert "MediaTek MT6989: compiling for it needs MediaTek's NeuroPilot SDK" in line
    (tmp_path / "libneuronusdk_adapter.mtk.so").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert main(arguments) == 10, "the export has begun"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize("command", [[], ["backbone"]])
def test_an_export_in_the_way_is_found_before_the_export(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (folder := tmp_path / "out" / "rexnet_050-int8-npu").mkdir(parents=True)
    (folder / "m.ort").touch()
    vouch(folder)
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--npu", "SM8650", "--checkpoint", "none.safetensors", "--output", str(tmp_path / "out")]
    assert main([*command, *arguments]) == 2, "10 would be the checkpoint's"
    assert f"--output {folder} holds an export" in capfd.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.usefixtures("fetched")
def test_a_backbone_is_compiled_too(tmp_path: Path, checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["backbone", *given(checkpoint, tmp_path / "out", "--npu", "SM8650", "--quiet")]) == 0
    (record,) = (tmp_path / "out").glob("*-npu/npu.json")
    assert [(one["chip"], one["whole"]) for one in json.loads(record.read_text())["chips"]] == [("SM8650", True)]
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.usefixtures("fetched")
def test_from_python_a_file_that_falls_apart_raises_when_all_is_published(tmp_path: Path, checkpoint: Path) -> None:
    few = {"targets": "tflite", "effort": "fast", "calibration_images": 16, "eval_images": 48}
    with pytest.raises(ConversionError, match=r"_SM8750\.tflite: not whole on the NPU"):
        rexnet_export.export(checkpoint, npu=["SM8650", "SM8750"], output=tmp_path / "out", **few)
    folder = tmp_path / "out" / "rexnet_050-int8-npu"
    whole = {one["chip"]: one["whole"] for one in json.loads((folder / "npu.json").read_text())["chips"]}
    assert whole == {"SM8650": True, "SM8750": False}
    assert (tmp_path / "out" / "manifest.json").exists()


def test_from_python_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"npu 'SM8560': no chip of that name; did you mean SM8850\?"):
        rexnet_export.export(npu="SM8560", output=tmp_path / "out")
    with pytest.raises(TargetUnavailable, match="npu --fetch"):
        rexnet_export.export(npu="SM8650", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("fetched")
def test_a_file_that_falls_apart_is_said_after_a_whole_export(
    tmp_path: Path, checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(given(checkpoint, output, "--npu", "SM8750,SM8650", "--json")) == 12
    out, err = capfd.readouterr()
    assert list(json.loads(out)["targets"]) == ["tflite"], "report.json and nothing more"
    folder = output / "rexnet_050-int8-npu"
    assert f"{folder}/rexnet_050-int8_Qualcomm_SM8750.tflite: not whole on the NPU: " in err
    assert "left to the processor: 1 " in err
    whole = {one["chip"]: one["whole"] for one in json.loads((folder / "npu.json").read_text())["chips"]}
    assert whole == {"SM8750": False, "SM8650": True}
    assert main(["verify", str(output), "--eval-images", "8", "--quiet"]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("fetched")
def test_an_export_again_has_no_compiled_files_of_the_one_before(
    tmp_path: Path, checkpoint: Path, exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(exported, tmp_path / "out"))
    assert main(["npu", str(output / FILE), "--chips", "SM8750,SM8450", "--quiet"]) == 12
    capfd.readouterr()
    assert main(given(checkpoint, output, "--npu", "SM8650")) == 0
    out, err = capfd.readouterr()
    folder = output / "rexnet_050-int8-npu"
    assert "done: " not in out
    assert out.index(f"1 file in {output}/; its report.html") < out.index(f"{FILE}: ") < out.index("Qualcomm SM8650")
    assert err.endswith(f"done: 1 file in {folder}/, whole on the NPU, not executed\n")
    assert "keeps what is not" not in err
    assert {path.name for path in folder.glob("*.tflite")} == {"rexnet_050-int8_Qualcomm_SM8650.tflite"}
