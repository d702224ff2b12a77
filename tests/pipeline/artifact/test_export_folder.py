"""Which files a folder stands for, and records that may not be believed."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from manifests import vouch

from rexnet_export.pipeline.artifact.export_folder import artifact_at, find_release, require_whole
from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.records import file_sha256

SUFFIXES = (".mlpackage", ".tflite", ".ort", ".onnx")


def release(folder: Path, **records: object) -> Path:
    """Two artifacts, the graph they were made from, and the records."""
    for name in ("m.tflite", "m.ort", "m-float.onnx"):
        (folder / name).write_bytes(name.encode())
    for name, content in records.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    if "report" in records and "manifest" not in records:
        vouch(folder)
    return folder


def knows(*names: str, **changed: object) -> dict[str, Any]:
    """A manifest of files of these names, none of which it describes as it is; `changed` replaces keys."""
    environment = {"system": "", "processor": "", "cores": None, "python": "3.12.1", "packages": {}}
    checkpoint = {"file": "a.pth", "sha256": "b" * 64, "bytes": 1}
    inputs = {"checkpoint": checkpoint, "options": {}, "checkpoint_metadata": {}}
    files = {name: {"sha256": "a" * 64, "bytes": 5} for name in names}
    return {"schema_version": 1, "inputs": inputs, "files": files, "environment": environment, **changed}


def report(*names: str) -> dict[str, Any]:
    return {"targets": {f"t{i}": {"artifact": name, "presets": {}} for i, name in enumerate(names)}}


def test_a_folder_stands_for_what_its_report_names(tmp_path: Path) -> None:
    folder = release(tmp_path, report=report("m.ort"))
    assert find_release((folder,), SUFFIXES).artifacts == (folder / "m.ort",)


def test_presets_count_too(tmp_path: Path) -> None:
    named = {"targets": {"ort": {"artifact": "m.ort", "presets": {"x86": {"artifact": "m.tflite"}}}}}
    assert len(find_release((release(tmp_path, report=named),), SUFFIXES).artifacts) == 2


def test_without_a_report_all_files_of_a_kind_do(tmp_path: Path) -> None:
    found = find_release((release(tmp_path),), SUFFIXES)
    assert {path.name for path in found.artifacts} == {"m.tflite", "m.ort", "m-float.onnx"}


def test_files_stand_for_themselves_and_are_named_once(tmp_path: Path) -> None:
    folder = release(tmp_path, report=report("m.ort", "m.tflite"))
    found = find_release((folder / "m.tflite", folder), SUFFIXES)
    assert [path.name for path in found.artifacts] == ["m.tflite", "m.ort"]


def test_what_lies_beside_a_file_vouches_for_it(tmp_path: Path) -> None:
    folder = release(tmp_path, qparams={}, manifest=knows("m.ort", "qparams.json", "m-float.onnx"))
    (folder / "stranger.onnx").write_bytes(b"not of this export")
    found = find_release((folder / "m.ort",), SUFFIXES)
    assert found.digests[folder / "m.ort"] == "a" * 64
    assert [table.path.name for table in found.tables] == ["qparams.json"]
    assert [graph.sha256 for graph in found.float_graphs] == [file_sha256(folder / "m-float.onnx")]


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing.ort", "does not exist"), ("notes.txt", "no artifact by its name"), ("empty", "holds no")],
)
def test_paths_that_are_no_release(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=said):
        find_release((tmp_path / name,), SUFFIXES)


@pytest.mark.parametrize(
    ("record", "content", "said"),
    [
        ("report", report("../../etc/passwd"), "no file beside it"),
        ("report", report("gone.ort"), "is missing"),
        ("report", {"targets": {"ort": {"artifact": "m.ort"}}}, "report.json .*targets.ort lacks presets"),
        ("report", {"targets": ["ort"]}, "no report .*targets holds a list"),
        ("report", [1], "it holds a list"),
        ("report", {}, "it lacks targets"),
        ("manifest", knows("../x"), "files names '../x', which is no file beside it"),
        ("manifest", knows("m.ort", files={"m.ort": 3}), "no manifest .*files.m.ort holds 3"),
        ("manifest", knows(files={"m.ort": {"sha256": "a", "bytes": 1}}), "files.m.ort.sha256 holds 'a'"),
        ("manifest", knows(files={"m.ort": {"sha256": "a" * 64}}), "files.m.ort lacks bytes"),
        ("manifest", knows(files={"m.ort": {"sha256": "a" * 64, "bytes": -1}}), "files.m.ort.bytes holds -1"),
        ("manifest", knows("m.ort", inputs={}), "inputs lacks checkpoint"),
        ("manifest", knows("m.ort", schema_version=2), "schema_version holds 2"),
        ("manifest", knows("m.ort", signed=True), "it has unknown signed"),
        ("manifest", knows("m" * 256), "no file beside it"),
        ("manifest", knows("m\0.ort"), "no file beside it"),
        ("manifest", knows("m\x1b.ort"), "no file beside it"),
        ("manifest", knows("m\ud800.ort"), "unexpected end of hex escape"),
        ("manifest", knows(), "files holds an object: .*at least 1 item"),
        ("manifest", {}, "it lacks inputs"),
    ],
)
def test_records_that_cannot_be_believed(tmp_path: Path, record: str, content: object, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        find_release((release(tmp_path, **{record: content}),), SUFFIXES)


def test_a_cut_record(tmp_path: Path) -> None:
    folder = release(tmp_path)
    (folder / "report.json").write_text('{"targets": {', encoding="utf-8")
    with pytest.raises(ConversionError, match=r"report\.json is no report of rexnet-export: "):
        find_release((folder,), SUFFIXES)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (package := tmp_path / "m.mlpackage" / "Data").mkdir(parents=True)
    (package / "weight.bin").write_bytes(b"weights")
    (tmp_path / "report.html").write_text("page")
    return release(tmp_path, report=report("m.ort", "m.tflite", "m.mlpackage"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "m.tflite": lambda folder: (folder / "m.tflite").write_bytes(b"7 bytes"),
    "m.ort": lambda folder: (folder / "m.ort").write_bytes(b"M.ort"),
    "m.mlpackage": lambda folder: (folder / "m.mlpackage" / "Data" / "weight.bin").write_bytes(b"WEIGHTS"),
    "report.html": lambda folder: (folder / "report.html").write_text(""),
    "m-float.onnx": lambda folder: (folder / "m-float.onnx").unlink(),
    "report.json": lambda folder: (folder / "report.json").write_text(json.dumps(report("m.ort"))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_file_of_the_manifest_is_compared(whole: Path, name: str) -> None:
    require_whole(whole)
    CHANGES[name](whole)
    with pytest.raises(ConversionError, match=f"{re.escape(name)} is (missing|not what manifest.json says)"):
        require_whole(whole)
    with pytest.raises(ConversionError, match=re.escape(name)):
        artifact_at(whole, "t0", SUFFIXES)


def test_one_artifact_is_compared_with_the_manifest_beside_it(whole: Path) -> None:
    assert artifact_at(whole / "m.ort", None, SUFFIXES) == whole / "m.ort"
    CHANGES["m.ort"](whole)
    with pytest.raises(ConversionError, match=r"m\.ort is not what manifest\.json says"):
        artifact_at(whole / "m.ort", None, SUFFIXES)


def test_a_report_without_a_manifest_is_refused(whole: Path) -> None:
    (whole / "manifest.json").unlink()
    for ask in (lambda: find_release((whole,), SUFFIXES), lambda: artifact_at(whole, "t0", SUFFIXES)):
        with pytest.raises(ConversionError, match=r"holds report\.json, but no manifest\.json"):
            ask()


def test_a_package_may_not_lead_outside(whole: Path) -> None:
    (whole / "m.mlpackage" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ConversionError, match=r"m\.mlpackage cannot be read .*is a link"):
        require_whole(whole)


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(whole: Path) -> None:
    for name in ("m.tflite", "manifest.json"):
        (whole / name).unlink()
        os.mkfifo(whole / name)
        with pytest.raises(ConversionError, match=name):
            require_whole(whole)
