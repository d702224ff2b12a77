"""Which files a folder stands for, and records that may not be believed."""

import json
from pathlib import Path
from typing import Any

import pytest

from rexnet_export.pipeline.artifact.export_folder import find_release
from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.records import file_sha256

SUFFIXES = (".mlpackage", ".tflite", ".ort", ".onnx")


def release(folder: Path, **records: object) -> Path:
    """Two artifacts, the graph they were made from, and the records."""
    for name in ("m.tflite", "m.ort", "m-float.onnx"):
        (folder / name).write_bytes(name.encode())
    for name, content in records.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


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
    folder = release(tmp_path, qparams={}, manifest={"files": {"m.ort": {"sha256": "a" * 64}}})
    found = find_release((folder / "m.ort",), SUFFIXES)
    assert found.digests == {folder / "m.ort": "a" * 64}
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
        ("report", {"targets": {"ort": {"artifact": "m.ort"}}}, "no report"),
        ("report", {"targets": ["ort"]}, "no report"),
        ("report", [1], "holds no object"),
        ("manifest", {"files": {"../x": {"sha256": "a"}}}, "no file beside it"),
        ("manifest", {"files": {"m.ort": 3}}, "no manifest"),
    ],
)
def test_records_that_cannot_be_believed(tmp_path: Path, record: str, content: object, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        find_release((release(tmp_path, **{record: content}),), SUFFIXES)


def test_a_cut_record(tmp_path: Path) -> None:
    folder = release(tmp_path)
    (folder / "report.json").write_text('{"targets": {', encoding="utf-8")
    with pytest.raises(ConversionError, match=r"report\.json is damaged"):
        find_release((folder,), SUFFIXES)
