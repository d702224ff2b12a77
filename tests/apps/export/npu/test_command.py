"""`rexnet-export npu`: what is compiled, what is said of it, and what is refused before anything is."""

import json
import os
import platform
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from compiled_files import KINDS, SAYS_VERSION, compiler, environment, portable_file
from manifests import vouch

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.npu import environment as module
from rexnet_export.apps.export.npu.environment import cache, find
from rexnet_export.pipeline.core.errors import TargetUnavailable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return portable_file(tmp_path / "small-int8.tflite")


def test_every_chip_has_a_file_and_a_line(tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packages = compiler(tmp_path, file)
    code = main(["npu", str(file), "--chips", "sm8650, SA8295,SM8650", "--environment", str(packages), "--json"])
    assert code == 0
    record = json.loads(capfd.readouterr().out)
    output = tmp_path / "small-int8-npu"
    assert json.loads((output / "npu.json").read_text()) == record
    assert record["source"]["operators"] == dict.fromkeys(KINDS, 1)
    assert record["packages"] == {"ai-edge-litert": "2.3.0"}
    for one, chip in zip(record["chips"], ("SM8650", "SA8295"), strict=True):
        assert (one["chip"], one["whole"], one["operators"], one["operators_on_npu"]) == (chip, True, 6, 6)
        assert one["sdk"] == "v2.51.0"
        assert "not_measured" in one["executed_by"]
        assert (output / one["file"]).stat().st_size == one["bytes"]


def test_the_ai_pack_has_phones_and_the_portable_file(tmp_path: Path, file: Path) -> None:
    packages = compiler(tmp_path, file)
    assert main(["npu", str(file), "--chips", "SM8650,SA8295", "--environment", str(packages), "--quiet"]) == 0
    pack = tmp_path / "small-int8-npu" / "ai-pack"
    models = {path.parent.name: path for path in pack.rglob("*.tflite")}
    assert set(models) == {"model#group_Qualcomm_SM8650", "model#group_other"}, "SA8295 is in cars"
    assert {path.relative_to(pack).parts[0] for path in models.values()} == {"small_int8"}
    assert models["model#group_other"].read_bytes() == file.read_bytes()
    groups = ElementTree.parse(pack / "device_targeting_configuration.xml").getroot()  # noqa: S314 - written here
    assert [group.get("name") for group in groups] == ["Qualcomm_SM8650"]
    chips = [chip.attrib for group in groups for selector in group for chip in selector]
    assert chips == [{"manufacturer": maker, "model": "SM8650"} for maker in ("Qualcomm", "QTI")]


def test_a_file_that_falls_apart_is_kept_and_said(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = compiler(tmp_path, file, outside=2)
    assert main(["npu", str(file), "--chips", "SM8750", "--environment", str(packages), "--quiet"]) == 12
    said = capfd.readouterr().err
    assert "not whole on the NPU: 4 of 6 operators in 1 partition; left to the processor: 1 MEAN, 1 DEQUANTIZE" in said
    record = json.loads((tmp_path / "small-int8-npu" / "npu.json").read_text())
    assert record["chips"][0]["whole"] is False
    assert "not_measured" in record["chips"][0]["parameters"]


def test_chips_that_can_be_compiled_are_where_another_cannot(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = "if flags['soc_manufacturer'] != 'Qualcomm': print('x\\nFailed to load /a/b/libneuron.so'); sys.exit(1)"
    packages = compiler(tmp_path, file)
    program = packages / "ai_edge_litert" / "tools" / "apply_plugin_main"
    program.write_text(program.read_text().replace(SAYS_VERSION, f"{fails}\n{SAYS_VERSION}"))
    assert main(["npu", str(file), "--chips", "SM8650,MT6989", "--environment", str(packages)]) == 13
    out, said = capfd.readouterr()
    assert "1 chip of 2 not compiled: MediaTek MT6989: the plugin says: Failed to load libneuron.so" in said
    assert "NeuroPilot" in said
    assert "not compiled: MediaTek MT6989" in out
    assert "\nnot compared: SM8650: the compiler wrote 0 graphs" in out
    record = json.loads((tmp_path / "small-int8-npu" / "npu.json").read_text())
    assert list(record["not_compiled"]) == ["MediaTek MT6989"]
    assert [one["chip"] for one in record["chips"]] == ["SM8650"]


def test_every_chip_that_cannot_be_compiled_is_named(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = environment(tmp_path / "packages", "sys.exit(3 if flags['soc_model'] == 'SM8650' else 4)")
    given = ["npu", str(file), "--chips", "SM8650,SM8750,SM8450", "--environment", str(packages), "--quiet"]
    assert main(given) == 12
    (line,) = capfd.readouterr().err.splitlines()
    assert "3 chips of 3 not compiled: Qualcomm SM8650: the compiler ended with code 3" in line
    assert "; Qualcomm SM8750, Qualcomm SM8450: the compiler ended with code 4" in line


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sys.exit(3)", "code 3"),
        ("pathlib.Path(flags['o']).write_bytes(b'TFL3 no model')", "not a TFLite model"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("bytearray(32 * 2**30)", "code 1"),
        ("pathlib.Path(flags['o']).write_bytes(pathlib.Path(flags['model']).read_bytes())", "nothing in the compiled"),
    ],
)
def test_a_compiler_that_fails_is_one_line(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str], body: str, said: str
) -> None:
    packages = environment(tmp_path / "packages", body)
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(packages)]) == 12
    assert said in capfd.readouterr().err
    assert not (tmp_path / "small-int8-npu").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{file}", "--chips", "SM8560"], 2, "did you mean SM8850"),
        (
            ["{file}", "--chips", "SM8650,,SM8750"],
            2,
            "--chips 'SM8650,,SM8750': an entry is missing; did you mean SM8650,SM8750?",
        ),
        (
            ["{file}", "--chips", ","],
            2,
            "--chips ',': an entry is missing; write entries with a comma between them: SM8650,SM8750",
        ),
        (["{file}", "--chips", ""], 2, "--chips '': an entry is missing"),
        (["{file}", "--chips", "sm8650 SM8750"], 2, "did you mean sm8650,SM8750?"),
        (["{file}", "--chips", "SM8650;all"], 2, "did you mean SM8650,all?"),
        (["{file}", "--chips", "Qualcom"], 2, "did you mean qualcomm?"),
        (["{file}", "--chips", "kirin"], 2, "Samsung: E9965"),
        (["{file}"], 2, "--chips is missing"),
        ([], 2, "FILE is missing"),
        (["--fetch", "--chips", "all"], 2, "--chips needs a FILE"),
        (["none.tflite", "--chips", "all"], 2, "none.tflite does not exist"),
        (["{folder}", "--chips", "all"], 2, "no .tflite file"),
        (["{file}", "--chips", "all", "--fetch", "--environment", "x"], 2, "leave out --fetch"),
        (["{file}", "--chips", "all"], 13, "Qualcomm's own licence"),
        (["{file}", "--chips", "all", "--environment", "{folder}"], 13, "has no ai_edge_litert/tools"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert main(["npu", *(word.format(file=file, folder=tmp_path) for word in arguments)]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line


def test_a_run_with_fewer_chips_leaves_nothing_of_the_one_before(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["npu", str(file), "--environment", str(compiler(tmp_path, file)), "--chips"]
    assert main([*given, "SM8650,SA8295"]) == 0
    output = tmp_path / "small-int8-npu"
    (output / "notes.txt").write_text("mine")
    capfd.readouterr()
    assert main([*given, "SA8295"]) == 0
    assert f"{output} keeps what is not of the older run: 'notes.txt'\n" in capfd.readouterr().err
    assert {path.name for path in output.iterdir()} == {"small-int8_Qualcomm_SA8295.tflite", "npu.json", "notes.txt"}


@pytest.mark.parametrize("damaged", ["", '{"schema_version": 1}', "../notes.txt"])
def test_a_damaged_record_names_nothing(tmp_path: Path, file: Path, damaged: str) -> None:
    given = ["npu", str(file), "--environment", str(compiler(tmp_path, file)), "--quiet", "--chips"]
    assert main([*given, "SM8650"]) == 0
    output = tmp_path / "small-int8-npu"
    record = (output / "npu.json").read_text()
    outside = record.replace('"small-int8_Qualcomm_SM8650.tflite"', f'"{damaged}"')
    (output / "npu.json").write_text(outside if damaged.startswith("..") else damaged)
    (tmp_path / "notes.txt").write_text("mine")
    assert main([*given, "SA8295"]) == 0
    assert (output / "small-int8_Qualcomm_SM8650.tflite").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [one["chip"] for one in json.loads((output / "npu.json").read_text())["chips"]] == ["SA8295"]


def test_the_folder_of_an_export_is_not_replaced(tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small-int8.ort").touch()
    vouch(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["npu", str(file), "--chips", "SM8650", "--output", str(tmp_path), "--environment", "x"]) == 2
    assert f"--output {tmp_path} holds an export" in capfd.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_file_never_reaches_the_compiler(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = environment(tmp_path / "packages", f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    file.write_bytes(file.read_bytes()[:-400])
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(packages)]) == 12
    assert str(file.name) in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_compiled_file_is_not_compiled_again(tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packages = compiler(tmp_path, file)
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(packages), "--quiet"]) == 0
    (made,) = (tmp_path / "small-int8-npu").glob("*.tflite")
    assert main(["npu", str(made), "--chips", "SM8650", "--environment", str(packages)]) == 12
    assert "it is compiled for Qualcomm SM8650" in capfd.readouterr().err
    assert main(["info", str(made)]) == 0
    assert "compiled for Qualcomm SM8650" in capfd.readouterr().out


def test_an_environment_made_by_hand_may_be_a_virtual_one(tmp_path: Path) -> None:
    packages = environment(tmp_path / "env" / "lib" / "python3.12" / "site-packages", "")
    assert find(tmp_path / "env").packages == packages


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="they are programs for x86-64")
def test_of_two_that_fetch_at_once_one_is_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def both(packages: Path, _: Path) -> None:
        environment(packages, "")
        environment(cache(), "")

    monkeypatch.setattr(module, "_install", both)
    assert main(["npu", "--fetch"]) == 0
    assert f"ai-edge-litert 2.3.0 in {cache()}" in capfd.readouterr().err
    assert list(cache().parent.iterdir()) == [cache()]


REAL = os.environ.get("REXNET_NPU_ENVIRONMENT")


@pytest.mark.skipif(REAL is None, reason="REXNET_NPU_ENVIRONMENT names no folder that `npu --fetch` made")
@pytest.mark.parametrize(
    ("stride", "code", "on_npu", "partitions", "fallback"), [(1, 0, 6, 1, {}), (0, 12, 5, 2, {"CONV_2D": 1})]
)
def test_the_real_compiler_takes_all_or_it_is_said(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    *,
    stride: int,
    code: int,
    on_npu: int,
    partitions: int,
    fallback: dict[str, int],
) -> None:
    file = portable_file(tmp_path / "small-int8.tflite", stride=stride)
    assert main(["npu", str(file), "--chips", "SM8650", "--environment", str(REAL), "--json"]) == code
    (one,) = json.loads(capfd.readouterr().out)["chips"]
    assert (one["operators_on_npu"], one["partitions"], one["fallback"]) == (on_npu, partitions, fallback)
    assert one["whole"] is (code == 0)
    if one["whole"]:
        assert one["parameters"] == {"activations": 5, "weights": 1, "integers": 2, "not_seen": ["image"]}


def test_the_missing_environment_says_how_large_and_whose_it_is(tmp_path: Path) -> None:
    with pytest.raises(TargetUnavailable, match=r"122 MB.*rexnet-export npu --fetch"):
        find(None)
    assert cache().is_relative_to(tmp_path)
