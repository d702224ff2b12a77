"""Baselines: written for a reason, read back whole, and refused when somebody else wrote them."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import Fault, at_every_call
from gate_samples import edit, logits, write_export

from rexnet_export.apps.gate.accuracy.evidence import read_evidence
from rexnet_export.apps.gate.baseline import baseline
from rexnet_export.apps.gate.baseline.baseline import arrays_file, digest, entry_digest, read_baseline, read_baselines
from rexnet_export.apps.gate.baseline.update import Change, Updated, update
from rexnet_export.pipeline.core.errors import BaselineError, DataError, GateFailed, UsageError
from rexnet_export.pipeline.core.records import file_sha256

FIRST = Change(reason="the first one", commit="c0ffee")
TARGETS = ("ort", "ort x86")


def accepted(tmp_path: Path, change: Change = FIRST, **wrong: Sequence[int]) -> list[Updated]:
    """An export with these images wrong becomes the baseline."""
    evidence = read_evidence(write_export(tmp_path / "out", wrong))
    return update(evidence, tmp_path / "baselines", TARGETS, change)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    accepted(tmp_path, ort=range(50))
    return tmp_path / "baselines" / "rexnet_100" / "ort.json"


def arrays_of(path: Path) -> Path:
    """The one file of arrays beside it."""
    (found,) = path.parent.glob(f"{path.stem}.*npz")
    return found


def test_what_is_written_is_read(path: Path) -> None:
    found = read_baseline(path)
    assert (found.target, found.model, found.precision) == ("ort", "rexnet_100", "int8")
    assert int((found.current.classes != found.images.labels).sum()) == 50
    assert int((found.float_anchor.classes != found.images.labels).sum()) == 40
    assert found.release_anchor is None
    assert list(found.anchors) == ["float"]
    assert found.current.confidences == pytest.approx(np.full(400, 0.9647), abs=1e-3)
    assert [entry["reason"] for entry in found.history] == ["the first one"]
    assert found.history[0]["commit"] == "c0ffee"
    assert set(read_baselines(path.parents[1], "rexnet_100")) == set(TARGETS)
    assert set(read_baselines(path.parent, "rexnet_100")) == set(TARGETS)
    assert set(read_baselines(path, "rexnet_100")) == {"ort"}


def test_files_are_small_and_read_well(path: Path) -> None:
    text = path.read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert json.loads(text)["current"] == {
        "correct": 350,
        "executed_by": "ONNX Runtime 1.26.0",
        "file": "rexnet_100-int8.ort",
        "sha256": hashlib.sha256(b"rexnet_100-int8.ort").hexdigest(),
        "top1": 0.875,
    }
    with np.load(arrays_of(path)) as arrays:
        assert {name: array.dtype for name, array in arrays.items()} == {
            "current": np.uint16,
            "float": np.uint16,
            "labels": np.uint16,
            "confidences": np.float16,
        }
    assert not list(path.parent.glob("*.part*"))


def test_a_better_one_keeps_the_history_and_the_anchor(tmp_path: Path, path: Path) -> None:
    (one, _) = accepted(tmp_path, Change(reason="better ranges", commit=None), ort=range(45), reference=range(45))
    assert (one.old_top1, one.new_top1) == (0.875, 0.8875)
    found = read_baseline(path)
    assert [entry["reason"] for entry in found.history] == ["the first one", "better ranges"]
    assert found.history[1]["old"]["correct"] == 350
    assert found.history[1]["new"]["correct"] == 355
    assert int((found.float_anchor.classes != found.images.labels).sum()) == 40


def test_a_worse_one_is_refused_and_nothing_written(tmp_path: Path, path: Path) -> None:
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(GateFailed, match=r"ort 87.50% -> 87.25%.*--accept-regression"):
        accepted(tmp_path, ort=range(51), **{"ort-x86": range(10)})
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    accepted(tmp_path, Change(reason="smaller file", commit=None, accept_regression=True), ort=range(51))
    assert read_baseline(path).history[-1]["accepted_regression"] is True


def test_a_release_moves_the_anchors(tmp_path: Path, path: Path) -> None:
    accepted(tmp_path, Change(reason="1.0", commit=None, release=True), ort=range(45), reference=range(30))
    found = read_baseline(path)
    assert found.release_anchor is not None
    assert int((found.release_anchor.classes != found.images.labels).sum()) == 45
    assert int((found.float_anchor.classes != found.images.labels).sum()) == 30
    accepted(tmp_path, Change(reason="1.1 dev", commit=None), ort=range(44))
    found = read_baseline(path)
    assert found.release_anchor is not None
    assert int((found.release_anchor.classes != found.images.labels).sum()) == 45


def test_nothing_new_changes_nothing(tmp_path: Path, path: Path) -> None:
    before = path.read_bytes()
    assert not any(one.changed for one in accepted(tmp_path, Change(reason="again", commit=None), ort=range(50)))
    assert path.read_bytes() == before


def test_other_images_need_new_anchors(tmp_path: Path, path: Path) -> None:
    folder = write_export(tmp_path / "out", images=800)
    report = json.loads((folder / "report.json").read_text())
    evidence = read_evidence(edit(folder, reference=report["reference"] | {"images_sha256": "f" * 64}))
    with pytest.raises(UsageError, match=r"taken on other images.*--release"):
        update(evidence, tmp_path / "baselines", TARGETS, FIRST)
    update(evidence, tmp_path / "baselines", TARGETS, Change(reason="more images", commit=None, release=True))
    assert len(read_baseline(path).images.labels) == 800


@pytest.mark.parametrize("reason", ["", "  "])
def test_no_reason(reason: str) -> None:
    with pytest.raises(UsageError, match="--reason is empty"):
        Change(reason=reason, commit=None)


def rewritten(path: Path, **changed: object) -> dict[str, Any]:
    content: dict[str, Any] = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps(content))
    return content


@pytest.mark.parametrize(
    "changed", [{"processor": "another"}, {"precision": "fp16"}, {"target": "tflite"}, {"history": []}, {"extra": 1}]
)
def test_hand_edits_are_seen(path: Path, changed: dict[str, Any]) -> None:
    rewritten(path, **changed)
    with pytest.raises(BaselineError, match=r"changed without a reason; restore .*--reason"):
        read_baseline(path)


def test_a_raised_top1_is_seen(path: Path) -> None:
    content = json.loads(path.read_text())
    rewritten(path, current=content["current"] | {"correct": 300})
    with pytest.raises(BaselineError, match="changed without a reason"):
        read_baseline(path)


@pytest.mark.parametrize("edited", [{"reason": "a better sounding one"}, {"reason": ""}, {"commit": None}])
def test_an_edited_history_is_seen(tmp_path: Path, path: Path, edited: dict[str, Any]) -> None:
    accepted(tmp_path, Change(reason="better", commit=None), ort=range(45))
    history = json.loads(path.read_text())["history"]
    rewritten(path, history=[history[0] | edited, history[1]])
    with pytest.raises(BaselineError, match="an entry of its history was edited"):
        read_baseline(path)
    rewritten(path, history=history[1:])
    with pytest.raises(BaselineError, match="an entry of its history was edited"):
        read_baseline(path)


def test_an_entry_without_reason_is_refused_even_if_its_digest_fits(path: Path) -> None:
    entry = json.loads(path.read_text())["history"][0] | {"reason": " "}
    rewritten(path, history=[entry | {"digest": entry_digest(entry, None)}])
    with pytest.raises(BaselineError, match="has no reason"):
        read_baseline(path)


def test_predictions_that_are_not_its_own(path: Path) -> None:
    stored = arrays_of(path)
    stored.write_bytes(stored.read_bytes() + b" ")
    with pytest.raises(BaselineError, match=r"ort\.\w{16}\.npz is not the file its baseline names"):
        read_baseline(path)
    stored.unlink()
    with pytest.raises(BaselineError, match=r"ort\.\w{16}\.npz is missing"):
        read_baseline(path)


@pytest.mark.parametrize(
    "broken",
    [
        {"current": np.full(400, 3, np.uint16)},  # the first class there is not
        {"float": np.zeros(399, np.uint16)},
        {"labels": np.zeros(400, np.int64)},
        {"current": None},
    ],
)
def test_arrays_that_are_no_classes_are_refused_though_their_digest_fits(path: Path, broken: dict[str, Any]) -> None:
    with np.load(arrays_of(path)) as stored:
        arrays = {name: array for name, array in (dict(stored) | broken).items() if array is not None}
    arrays_of(path).unlink()
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    content = json.loads(path.read_text())
    entry = content.pop("history")[0]
    content["predictions_sha256"] = file_sha256(path.with_suffix(".npz"))
    entry["content_sha256"] = digest(content)
    path.write_text(json.dumps(content | {"history": [entry | {"digest": entry_digest(entry, None)}]}))
    (name,) = broken
    with pytest.raises(DataError, match=f"ort.json: {name} are not 400 of 3 classes; restore them"):
        read_baseline(path)


def test_what_is_read_has_bounds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB of JSON, and two bytes an image for each of twelve arrays."""
    asked = []

    def bounded(_: Path, most: int) -> dict[str, Any]:
        asked.append(most)
        raise ValueError("enough")

    for name in ("read_arrays", "read_untrusted", "read_json"):
        monkeypatch.setattr(baseline, name, bounded)
        (path.parent / ".pending").write_text("{}") if name == "read_json" else None
        with pytest.raises(DataError, match="enough"):
            read_baseline(path)
    assert asked == [12 * 2 * 400, 64 * 2**20, 64 * 2**20]


def test_digests_are_of_the_same_text_on_every_machine_and_in_every_version() -> None:
    text = '{"a": "ü", "b": 1}'
    assert digest({"b": 1, "a": "ü"}) == hashlib.sha256(text.encode()).hexdigest()


def test_newer_and_damaged_baselines(path: Path) -> None:
    text = path.read_text()
    rewritten(path, schema_version=2)
    with pytest.raises(BaselineError, match="schema_version 2, this program reads up to 1; install a newer"):
        read_baseline(path)
    path.write_text(text[:200])
    with pytest.raises(DataError, match=r"ort.json is damaged"):
        read_baseline(path)


def test_a_vouched_baseline_of_nonsense(path: Path) -> None:
    content = json.loads(path.read_text())
    entry = content.pop("history")[0]
    content["images"]["n"] = 7
    entry["content_sha256"] = digest(content)
    path.write_text(json.dumps(content | {"history": [entry | {"digest": entry_digest(entry, None)}]}))
    with pytest.raises(DataError, match="labels are not 7 of 3 classes"):
        read_baseline(path)


def test_no_baseline(tmp_path: Path, path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaselineError, match="holds no baseline of rexnet_100; accept"):
        read_baselines(tmp_path / "empty", "rexnet_100")
    with pytest.raises(BaselineError, match=r"ort.json is of rexnet_100, not of rexnet_130"):
        read_baselines(path, "rexnet_130")


def test_baselines_of_an_older_version_are_read_and_renewed(tmp_path: Path, path: Path) -> None:
    arrays_of(path).rename(path.with_suffix(".npz"))
    assert read_baseline(path).target == "ort"
    accepted(tmp_path, Change(reason="better", commit=None), ort=range(45))
    assert arrays_of(path) != path.with_suffix(".npz")


def test_older_arrays_are_not_taken_where_those_are_that_the_record_names(path: Path) -> None:
    shutil.copy(arrays_of(path), path.with_suffix(".npz"))
    named = arrays_file(path, json.loads(path.read_text())["predictions_sha256"])
    assert re.fullmatch(r"ort\.[0-9a-f]{16}\.npz", named.name)
    named.unlink()
    assert arrays_file(path, "f" * 64).name == "ort.npz"
    assert arrays_file(path, "f" * 64, new=True).name == "ort.ffffffffffffffff.npz"


@pytest.mark.parametrize("fault", ["kill", "fail"])
def test_an_update_is_of_all_targets_or_of_none_wherever_it_is_cut_off(tmp_path: Path, fault: Fault) -> None:
    accepted(tmp_path, ort=range(50), **{"ort-x86": range(50)})
    folder = tmp_path / "baselines" / "rexnet_100"
    before = shutil.copytree(folder, tmp_path / "before")
    better = read_evidence(write_export(tmp_path / "better", {"ort": range(45), "ort-x86": range(45)}))

    def prepare() -> None:
        shutil.rmtree(folder)
        shutil.copytree(before, folder)

    def work() -> None:
        update(better, tmp_path / "baselines", TARGETS, Change(reason="better", commit=None))

    def check() -> None:
        found = read_baselines(folder, "rexnet_100")
        lengths = {len(found[target].history) for target in TARGETS}
        assert lengths in ({1}, {2})
        work()
        again = read_baselines(folder, "rexnet_100")
        assert {len(again[target].history) for target in TARGETS} == {2}
        assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".json", ".npz", ".npz"], list(folder.iterdir())

    assert at_every_call(prepare, work, check, folder, fault) > 20


@pytest.mark.parametrize("name", ["../x.json", "x.txt", "/etc/x.json"])
def test_a_cut_off_update_that_names_other_places_is_refused(path: Path, name: str) -> None:
    (path.parent / ".pending").write_text(json.dumps({name: {"predictions_sha256": "0" * 64}}))
    with pytest.raises(DataError, match="no file beside it"):
        read_baseline(path)


EVEN = np.arange(0, 400, 2, dtype=np.uint32)


def accepted_of_some(tmp_path: Path, wrong: Sequence[int], change: Change = FIRST) -> Updated:
    """An export that asked its file for ARM about every other image becomes the baseline."""
    arrays = {"ort": logits(400, wrong)[EVEN], "ort.images": EVEN}
    evidence = read_evidence(edit(write_export(tmp_path / "out"), arrays))
    (updated,) = update(evidence, tmp_path / "baselines", ("ort",), change)
    return updated


def test_which_images_were_asked_about_is_kept(tmp_path: Path) -> None:
    updated = accepted_of_some(tmp_path, range(50))
    found = read_baseline(updated.path)
    assert found.current.places is not None
    assert found.current.places.tolist() == EVEN.tolist()
    assert len(found.current.confidences) == 200  # type: ignore[arg-type]
    assert found.float_anchor.places is None
    content = json.loads(updated.path.read_text())
    assert (content["current"]["n"], content["current"]["correct"], content["current"]["top1"]) == (200, 175, 0.875)
    assert "n" not in content["anchors"]["float"]


def test_whether_a_baseline_is_worse_is_asked_of_the_images_of_both(tmp_path: Path) -> None:
    """Of all images 40 are wrong, of the even ones 30 more than a tenth: harder images are no regression."""
    accepted(tmp_path, ort=range(0, 60, 2))
    same = accepted_of_some(tmp_path, range(0, 60, 2))
    assert same.new_top1 < same.old_top1  # type: ignore[operator]
    with pytest.raises(GateFailed, match="the new baseline is worse"):
        accepted_of_some(tmp_path, range(0, 62, 2), Change(reason="worse", commit=None))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("current.images", EVEN[::-1], "current: places are not in order"),
        ("current.images", EVEN + 2, "current: place 400 is none of 400 images"),
        ("current.images", EVEN[:7], "confidences are not 7 probabilities"),
        ("current", np.zeros(7, np.uint16), "current are not 200 of 3 classes"),
        ("confidences", np.zeros(7, np.float16), "confidences are not 200 probabilities"),
        ("confidences", np.zeros(200, np.int16), "confidences are not 200 probabilities"),
    ],
)
def test_places_that_are_none_are_refused(
    name: str, values: np.ndarray, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = accepted_of_some(tmp_path, range(50)).path
    with np.load(arrays_of(path)) as stored:
        arrays = {**stored, name: values}
    monkeypatch.setattr(baseline, "_arrays", lambda *_: arrays)
    with pytest.raises(DataError, match=said):
        read_baseline(path)
