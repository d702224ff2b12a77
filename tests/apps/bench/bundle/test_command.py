"""A bundle holds what a device needs, in the same bytes every time, and reads nothing that it should not."""

import ast
import hashlib
import json
import shutil
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundles import altered, small_bundle

from rexnet_export.apps.bench import runner
from rexnet_export.apps.bench.bundle.make_bundle import runner_files
from rexnet_export.apps.bench.command import main
from rexnet_export.apps.bench.runner.archive import open_archive
from rexnet_export.apps.bench.runner.failure import RunnerError
from rexnet_export.pipeline import timing

RUNNER, TIMING = Path(runner.__file__).parent, Path(timing.__file__).parent
SHIPPED = ("rexnet_export.apps.bench.runner", "rexnet_export.pipeline.timing")
ALLOWED = {"numpy", "rexnet_export"}


def test_bytes_are_the_same_every_time(bundle: Path, exported: Path, tmp_path: Path) -> None:
    again = small_bundle(exported, tmp_path / "again.zip", "--baseline", str(exported))
    assert again.read_bytes() == bundle.read_bytes()


def test_seed_chooses_the_images(bundle: Path, exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "tflite", ignore=shutil.ignore_patterns("*.ort", "*.mlpackage", "*.json"))
    other = open_archive(small_bundle(tmp_path / "tflite", tmp_path / "other.zip", "--seed", "1"))
    same = open_archive(small_bundle(tmp_path / "tflite", tmp_path / "same.zip"))
    assert other.read("image_ids.txt") != same.read("image_ids.txt") == open_archive(bundle).read("image_ids.txt")


def test_contents(bundle: Path) -> None:
    archive = open_archive(bundle)
    identity = archive.check()
    plan = archive.read_object("plan.json")
    files = [entry["file"] for entry in plan["artifacts"]]
    names = set(archive.names())
    assert [Path(name).name.split("int8")[1] for name in files] == [".tflite", "-x86.ort", ".ort", ".mlpackage"]
    assert {"model/rexnet_050-int8.mlpackage/Manifest.json", "labels.npy", "image_ids.txt", "inputs.json"} <= names
    assert {entry["expected"] for entry in plan["artifacts"]} <= names
    assert identity["created_by"]["name"] == "rexnet-export"
    with zipfile.ZipFile(bundle) as opened:
        images = np.load(opened.open("inputs/batch_0000.npy"))
        labels = np.load(opened.open("labels.npy"))
        golden = np.load(opened.open(plan["artifacts"][0]["expected"]))
    assert images.dtype == np.uint8
    assert images.shape == (24, 32, 32, 3)
    assert labels.shape == (24,)
    assert golden.shape == (24, 10)
    assert np.isfinite(golden).all()
    ids = [json.loads(line) for line in archive.read("image_ids.txt").decode().splitlines()]
    assert len(set(ids)) == 24


def test_what_no_device_runs_is_named(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "openvino"
    shutil.copytree(exported, folder, ignore=shutil.ignore_patterns("*.ort", "*.mlpackage", "*.json"))
    (folder / "rexnet_050-int8.openvino").mkdir()
    assert main(["bundle", str(folder), "--output", str(tmp_path / "a.zip"), "--images", "1"]) == 0
    (said,) = (line for line in capfd.readouterr().err.splitlines() if "left out" in line)
    what, _, names = said.partition(": ")
    assert what == "left out, as devices' runners open none such"
    kinds = ("fp32.safetensors", "int8.openvino", "int8-vnni.onnx", "int8-npu.onnx")
    assert {f"rexnet_050-{kind}" for kind in kinds} <= set(names.split(", "))


def test_baseline_lies_beside_its_artifact(bundle: Path) -> None:
    plan = open_archive(bundle).read_object("plan.json")
    assert plan["artifacts"][0]["reference"] == "reference/rexnet_050-int8.tflite"
    assert "reference/rexnet_050-int8.tflite" in open_archive(bundle).names()


@pytest.mark.parametrize(
    ("flags", "says", "code"),
    [
        (["--images", "0"], "--images 0", 2),
        (["--output", "x.tar"], "ends in .zip", 2),
        (["--output", "no/such/x.zip"], "there is no folder", 2),
        (["--baseline", "."], "has no rexnet_050-int8.tflite", 2),
    ],
)
def test_refusals(
    flags: list[str],
    says: str,
    code: int,
    exported: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", str(exported), "--output", "x.zip", *flags]) == code
    assert says in capfd.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def member(name: str, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o644) << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "a/../../evil",
        "a\\..\\evil",
        "C:evil",
        "with space",
        "a'b",
        'a"b',
        "a;b",
        "$(x)",
        "a\nb",
        "-rf",
    ],
)
def test_hostile_names_are_refused(name: str, bundle: Path, tmp_path: Path) -> None:
    hostile = altered(bundle, tmp_path / "x.zip", lambda members: members.update({member(name): b"evil"}))
    with pytest.raises(RunnerError, match="not a plain relative name"):
        open_archive(hostile)


def test_links_and_strangers_are_refused(bundle: Path, tmp_path: Path) -> None:
    link = altered(bundle, tmp_path / "a.zip", lambda m: m.update({member("link", stat.S_IFLNK): b"/etc/passwd"}))
    with pytest.raises(RunnerError, match="a link"):
        open_archive(link)
    stranger = altered(bundle, tmp_path / "b.zip", lambda m: m.update({member("stranger"): b""}))
    with pytest.raises(RunnerError, match="disagree about 'stranger'"):
        open_archive(stranger)


def test_two_names_that_one_file_system_takes_for_one_are_refused(bundle: Path, tmp_path: Path) -> None:
    twice = altered(bundle, tmp_path / "x.zip", lambda m: m.update({member("LABELS.npy"): b""}))
    with pytest.raises(RunnerError, match="twice"):
        open_archive(twice)


def test_changed_content_is_named(bundle: Path, tmp_path: Path) -> None:
    def change(members: dict[zipfile.ZipInfo, bytes]) -> None:
        (labels,) = [info for info in members if info.filename == "labels.npy"]
        members[labels] = members[labels][:-1] + b"\x09"

    with pytest.raises(RunnerError, match=r"labels\.npy is not what SHA256SUMS says"):
        open_archive(altered(bundle, tmp_path / "x.zip", change)).check()


def test_sums_that_were_changed_too_do_not_fit_the_identifier(bundle: Path, tmp_path: Path) -> None:
    def change(members: dict[zipfile.ZipInfo, bytes]) -> None:
        by_name = {info.filename: info for info in members}
        old = hashlib.sha256(members[by_name["labels.npy"]]).hexdigest()
        members[by_name["labels.npy"]] = b"other"
        new = hashlib.sha256(b"other").hexdigest()
        members[by_name["SHA256SUMS"]] = members[by_name["SHA256SUMS"]].replace(old.encode(), new.encode())

    with pytest.raises(RunnerError, match="bundle_id"):
        open_archive(altered(bundle, tmp_path / "x.zip", change)).check()


def test_what_claims_to_be_huge_is_refused(bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    directory = content.rindex(b"PK\x01\x02")  # the last entry of the directory; 24 bytes on is its unpacked size
    claim = content[: directory + 24] + (2**32 - 2).to_bytes(4, "little") + content[directory + 28 :]
    huge = tmp_path / "x.zip"
    huge.write_bytes(claim)
    with pytest.raises(RunnerError, match=r"would unpack to more"):
        open_archive(huge)


@pytest.mark.parametrize("keep", [0, 100, 5000, -30])
def test_half_a_bundle_is_none(keep: int, bundle: Path, tmp_path: Path) -> None:
    half = tmp_path / "x.zip"
    half.write_bytes(bundle.read_bytes()[:keep])
    with pytest.raises(RunnerError, match="no bundle"):
        open_archive(half)


@pytest.mark.parametrize(
    "path", [*sorted(RUNNER.glob("*.py")), *sorted(TIMING.glob("*.py"))], ids=lambda path: path.stem
)
def test_runner_needs_only_numpy_and_speaks_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            root = name.split(".")[0]
            assert root in sys.stdlib_module_names | ALLOWED, f"{path.name} imports {name}"
            assert root != "rexnet_export" or name.startswith(SHIPPED), name
            assert root not in {"socket", "urllib", "http", "ssl"}, "no network use on the device"


def test_runner_is_whole() -> None:
    shipped = [*RUNNER.glob("*.py"), *TIMING.glob("*.py")]
    assert {Path(name).name for name, _ in runner_files()} == {path.name for path in shipped}
    assert len(dict(runner_files())) == len(shipped)
