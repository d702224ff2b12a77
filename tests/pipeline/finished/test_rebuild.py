"""An export made again: what is compared, and what is told where it differs."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from rexnet_export.pipeline.artifact import provenance as module
from rexnet_export.pipeline.artifact.manifest import made_from, manifest
from rexnet_export.pipeline.artifact.provenance import statement
from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError, UsageError
from rexnet_export.pipeline.core.json import now, to_text
from rexnet_export.pipeline.core.records import stored_file
from rexnet_export.pipeline.core.reproducible import is_reproducible
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.recorded import recorded
from rexnet_export.pipeline.finished import rebuild as rebuilding
from rexnet_export.pipeline.finished.rebuild import Rebuilt, rebuild


def export(options: Options, ort: str | None = None, code: str = "a" * 64) -> None:
    """An export whose one artifact and whose table follow from its options."""
    options.output.mkdir()
    (options.output / "m.ort").write_text(ort or f"{options.seed} {options.statistic}")
    calibration = {"seed": options.seed, "images_sha256": "1" * 64}
    (options.output / "qparams.json").write_text(to_text({"calibration": calibration}))
    report = {"created": now(), "precision": "int8", "calibration": calibration, "targets": {}}
    (options.output / "report.json").write_text(to_text(report))
    files = {path.name: stored_file(path) for path in options.output.iterdir()}
    assert options.checkpoint is not None
    made = made_from(stored_file(Path(options.checkpoint)), recorded(options), {})
    (options.output / "manifest.json").write_text(to_text(manifest(files, made).to_json()))
    stated = statement(options.output, made, {}, now())
    stated["predicate"]["runDetails"]["builder"]["builderDependencies"][0]["digest"]["sha256"] = code
    (options.output / "provenance.intoto.json").write_text(to_text(stated))


@pytest.fixture(params=["with times", "reproducible"])
def moments(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    reproducible: bool = request.param == "reproducible"
    if reproducible:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    return reproducible


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, moments: bool) -> Path:
    (checkpoint := tmp_path / "network.safetensors").write_bytes(b"weights")
    export(Options(checkpoint=str(checkpoint), output=tmp_path / "out", statistic="mse", target=("ort",)))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path / "out"


def again(made: Path, ort: str | None = None, code: str = "a" * 64, **given: object) -> Rebuilt:
    def make(options: Options) -> None:
        assert is_reproducible()
        assert options.target == ("ort",)
        export(options, ort, code)

    return rebuild(made, str(made.parent / "network.safetensors"), given, make, made.parent / "again")


def edit_options(made: Path, **options: object) -> None:
    content = json.loads((made / "manifest.json").read_text())
    content["inputs"]["options"] |= options
    (made / "manifest.json").write_text(json.dumps(content))
    (made / "provenance.intoto.json").unlink()


def test_the_same_options_give_the_same_files(made: Path, *, moments: bool) -> None:
    found = again(made)
    assert found.differing == found.reasons == ()
    records = ("report.json", "manifest.json", "provenance.intoto.json")
    assert set(found.same) == {"m.ort", "qparams.json", *(records if moments else ())}
    assert found.not_compared == (() if moments else ("report.json",))
    assert not is_reproducible()


def test_one_flipped_option_is_named_by_what_it_changed(made: Path, *, moments: bool) -> None:
    edit_options(made, seed=1)
    found = again(made)
    assert found.differing[:2] == ("m.ort", "qparams.json")
    assert ("manifest.json" in found.differing) == moments
    assert "qparams.json calibration.seed: 0 then, 1 now" in found.reasons


def test_an_option_that_is_given_is_compared_with_the_recorded(made: Path) -> None:
    found = again(made, seed=7)
    assert "option seed: 0 then, 7 now" in found.reasons


def test_where_data_lies_is_a_reason_only_for_records_that_hold_its_name(made: Path, *, moments: bool) -> None:
    found = again(made, ort="other", calibration_data=Path("some/elsewhere"))
    assert "m.ort" in found.differing
    reason = "option calibration_data: None then, 'elsewhere' now"
    assert [each for each in found.reasons if "calibration_data" in each] == ([reason] if moments else [])


@pytest.mark.parametrize("is_here", [True, False])
def test_the_bundled_checkpoint_is_not_named_again(
    made: Path, monkeypatch: pytest.MonkeyPatch, *, is_here: bool
) -> None:
    edit_options(made, checkpoint=None)
    (bundled := made.parent / "bundled").write_bytes(b"weights" if is_here else b"of another release")
    monkeypatch.setattr(rebuilding, "bundled_checkpoint", lambda: bundled)
    taken: list[str | None] = []

    def make(options: Options) -> None:
        taken.append(options.checkpoint)
        export(replace(options, checkpoint=str(made.parent / "network.safetensors")))

    given = str(made.parent / "network.safetensors")
    rebuild(made, given, {}, make, made.parent / "again")
    assert taken == [None if is_here else given]


def test_another_tool_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tuple(replace(tool, version="0.1") if tool.name == "onnx" else tool for tool in module.installed())
    monkeypatch.setattr(module, "installed", lambda: here)
    found = again(made, ort="other")
    assert f"tool onnx: '{version('onnx')}' then, '0.1' now" in found.reasons


def test_other_code_is_named(made: Path) -> None:
    found = again(made, ort="other", code="b" * 64)
    assert f"tool code of rexnet-export: {ascii('a' * 64)[:60]}... then, {ascii('b' * 64)[:60]}... now" in found.reasons


def test_another_checkpoint_is_refused_before_anything_is_made(made: Path) -> None:
    (made.parent / "network.safetensors").write_bytes(b"others")
    with pytest.raises(CheckpointError, match=r"is not the checkpoint that .*out was made from"):
        again(made)
    assert not (made.parent / "again").exists()


def test_an_altered_folder_is_refused(made: Path) -> None:
    (made / "m.ort").write_text("others")
    with pytest.raises(ConversionError, match=r"m\.ort is not what manifest\.json says"):
        again(made)


def test_a_reproducible_export_without_its_moment_is_refused(made: Path, *, moments: bool) -> None:
    if not moments:
        pytest.skip("only a reproducible export names a moment that is made again")
    (made / "report.json").write_text("{}")
    _known_again(made)
    with pytest.raises(ConversionError, match=r"report\.json does not say when it was created"):
        again(made)
    (made / "report.json").unlink()
    _known_again(made)
    with pytest.raises(UsageError, match=r"has neither report\.json nor backbone\.json"):
        again(made)


def _known_again(made: Path) -> None:
    """The manifest of what lies there now, its provenance gone."""
    (made / "provenance.intoto.json").unlink(missing_ok=True)
    content = json.loads((made / "manifest.json").read_text())
    (made / "manifest.json").unlink()
    files = {path.name: stored_file(path) for path in made.iterdir()}
    content["files"] = {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in files.items()}
    (made / "manifest.json").write_text(to_text(content))


def test_what_is_no_export_is_refused(made: Path) -> None:
    with pytest.raises(UsageError, match="has no manifest"):
        rebuild(made.parent, "x", {}, export, made.parent / "again")
    edit_options(made, colour="red")
    with pytest.raises(UsageError, match="unknown key 'colour'"):
        again(made)
