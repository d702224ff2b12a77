"""What is stated of a folder: every file, what it was made from and with; and the bill of materials."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from signed_folders import MOMENT, made, stated_folder

from rexnet_export.pipeline.artifact.export_folder import altered, require_whole
from rexnet_export.pipeline.artifact.provenance import Statement
from rexnet_export.pipeline.artifact.sbom import sbom
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.records import file_sha256, stored_file
from rexnet_export.pipeline.machine import distributions


def test_it_names_files_materials_options_and_tools(tmp_path: Path) -> None:
    folder = stated_folder(tmp_path / "out")
    stated = json.loads((folder / "provenance.intoto.json").read_text())
    assert {subject["name"]: subject["digest"] for subject in stated["subject"]} == {
        name: {"sha256": file_sha256(folder / name)}
        for name in ("m.mlpackage/Data/weight.bin", "m.ort", "manifest.json")
    }
    build, run = stated["predicate"]["buildDefinition"], stated["predicate"]["runDetails"]
    assert build["externalParameters"] == {"seed": 0, "precision": "int8"}
    assert build["resolvedDependencies"][:3] == [
        {"name": "network.safetensors", "digest": {"sha256": "a" * 64}},
        {"name": "calibration images", "digest": {"sha256": "b" * 64}},
        {"name": "evaluation images", "digest": {"sha256": "c" * 64}},
    ]
    assert {"uri": f"pkg:pypi/onnx@{version('onnx')}"} in build["resolvedDependencies"]
    assert run["builder"]["version"] == {"rexnet-export": version("rexnet-export")}
    assert run["metadata"] == {"finishedOn": "2023-11-14T22:13:20Z"}
    require_whole(folder)


def test_one_byte_of_the_code_is_another_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = distributions.code_sha256()
    assert before == distributions.code_sha256()
    (tmp_path / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(distributions, "files", lambda _: tmp_path)
    changed = distributions.code_sha256()
    (tmp_path / "module.py").write_text("x = 2\n")
    assert len({before, changed, distributions.code_sha256()}) == 3


def test_a_statement_on_another_manifest_is_refused(tmp_path: Path) -> None:
    folder = stated_folder(tmp_path / "out")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"]["options"]["seed"] = 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert altered(folder) == ["provenance.intoto.json: it is about another manifest.json"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[" * 2000, '{"_type": "https://in-toto.io/Statement/v0.1", "subject": []}']
)
def test_a_damaged_statement_is_one_problem(tmp_path: Path, text: str) -> None:
    folder = stated_folder(tmp_path / "out")
    (folder / "provenance.intoto.json").write_text(text)
    with pytest.raises(ConversionError, match=r"provenance\.intoto\.json: .*export again"):
        require_whole(folder)


def test_what_changed_is_named(tmp_path: Path) -> None:
    folder = stated_folder(tmp_path / "out")
    stated = Statement.parse((folder / "provenance.intoto.json").read_bytes())
    (folder / "notes.txt").touch()
    assert stated.differences(folder) == []
    (folder / "m.ort").write_bytes(b"or7")
    (folder / "m.mlpackage" / "Data" / "weight.bin").unlink()
    assert stated.differences(folder) == [
        "'m.mlpackage/Data/weight.bin' cannot be read (No such file or directory)",
        "'m.ort' is not what was stated",
    ]
    (folder / "m.ort").unlink()
    (tmp_path / "outside").write_bytes(b"ort")
    (folder / "m.ort").symlink_to(tmp_path / "outside")
    assert "'m.ort' cannot be read (it leads out of 'out')" in stated.differences(folder)


def test_the_bill_is_cyclonedx(tmp_path: Path) -> None:
    folder = stated_folder(tmp_path / "out")
    files = {path.name: stored_file(path) for path in folder.iterdir()}
    bill = sbom("rexnet_100", files, made(), MOMENT)
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(to_text(bill)) is None
    names = {part["name"]: part for part in bill["components"]}
    assert names["m.ort"]["hashes"] == [{"alg": "SHA-256", "content": file_sha256(folder / "m.ort")}]
    assert names["torch"]["purl"] == f"pkg:pypi/torch@{version('torch')}"
    assert {"numpy", "sympy", "network.safetensors"} <= names.keys()  # sympy is torch's
    assert not {"hypothesis", "mypy", "rexnet-export"} & names.keys()
    assert sbom("rexnet_100", files, made(), MOMENT) == bill
    (folder / "m.ort").write_bytes(b"other")
    files["m.ort"] = stored_file(folder / "m.ort")
    assert sbom("rexnet_100", files, made(), MOMENT)["serialNumber"] != bill["serialNumber"]
