"""The gate's questions: which are asked of a chain, which stage is blamed, what is not compared."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from gate_samples import CLASSES, edit, logits, write_export

from rexnet_export.apps.gate.accuracy.decision import Policy
from rexnet_export.apps.gate.accuracy.evidence import Evidence, read_evidence, runtime
from rexnet_export.apps.gate.accuracy.questions import check
from rexnet_export.apps.gate.accuracy.result import Check, GateResult
from rexnet_export.apps.gate.accuracy.words import check_words, images_said, result_words
from rexnet_export.apps.gate.baseline.baseline import read_baselines
from rexnet_export.apps.gate.baseline.update import Change, update
from rexnet_export.pipeline.core.errors import BaselineError, UsageError

POLICY = Policy(margin=0.02, tolerance=0.01)
WIDE = Policy(margin=0.2, tolerance=0.1)
RUINED = range(140)  # 100 of 400 images more than the others have wrong
NAMES = ("onnx-float", "onnx-equalized", "onnx-quantized", "ort", "ort-x86")


def export(folder: Path, **wrong: Sequence[int]) -> Evidence:
    return read_evidence(write_export(folder, {name.replace("_", "-"): images for name, images in wrong.items()}))


def sentence(found: Check) -> str:
    return check_words(found, "fail").sentence


def by_name(result: GateResult) -> Mapping[tuple[str, str], Check]:
    return {(one.target, one.name): one for one in result.checks}


def schema() -> object:
    loaded = json.loads(resources.files("rexnet_export.apps.gate.accuracy").joinpath("gate.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def follows_the_schema(result: GateResult) -> None:
    jsonschema.validate(json.loads(json.dumps(result.to_json(), allow_nan=False)), schema())


def test_the_chain_alone(tmp_path: Path) -> None:
    result = check(export(tmp_path), None, POLICY)
    assert [(one.target, one.name, one.outcome) for one in result.checks] == [
        ("float", "agreement", "pass"),
        ("equalized", "agreement", "pass"),
        ("quantized", "chain", "pass"),
        ("ort", "chain", "pass"),
        ("ort x86", "chain", "pass"),
    ]
    assert (result.overall, result.exit_code, result.broken_stage) == ("pass", 0, None)
    follows_the_schema(result)


@pytest.mark.parametrize(
    ("first", "stage"),
    [(0, "float"), (1, "equalized"), (2, "quantized"), (3, "ort, ort x86"), (4, "ort x86")],
)
def test_the_stage_that_broke_is_named(tmp_path: Path, first: int, stage: str) -> None:
    """A fault is handed on to everything made from the stage."""
    result = check(read_evidence(write_export(tmp_path, dict.fromkeys(NAMES[first : first + 5], RUINED))), None, POLICY)
    assert ", ".join(one.target for one in result.checks if one.failed) == stage
    assert (result.overall, result.exit_code, result.broken_stage) == ("fail", 1, stage)


def test_an_exact_stage_may_flip_one_image_in_a_thousand(tmp_path: Path) -> None:
    one = check(export(tmp_path / "1", onnx_float=range(41)), None, WIDE)
    two = check(export(tmp_path / "2", onnx_float=range(42)), None, WIDE)
    assert by_name(one)["float", "agreement"].outcome == "pass"
    assert by_name(two)["float", "agreement"].outcome == "fail"
    assert "all but 2 of 400" in by_name(two)["float", "agreement"].message


def test_against_its_own_float_network(tmp_path: Path) -> None:
    wrong = dict.fromkeys(("onnx_quantized", "ort", "ort_x86"), range(200))
    result = check(export(tmp_path, **wrong), None, WIDE, float_baseline=True, targets=["ort"])
    assert by_name(result)["ort", "float"].outcome == "fail_certain"
    assert by_name(result)["ort", "float"].numbers.drop == pytest.approx(0.4)  # type: ignore[union-attr]
    assert ("ort x86", "float") not in by_name(result)
    assert result.broken_stage == "quantized"


def test_against_another_export(tmp_path: Path) -> None:
    before = export(tmp_path / "old")
    same = check(export(tmp_path / "new"), before, POLICY)
    assert same.overall == "pass"
    assert [one.target for one in same.checks if one.name == "baseline"] == [
        "torch",
        "float",
        "equalized",
        "quantized",
        "ort",
        "ort x86",
    ]
    everything = dict.fromkeys(("reference", *NAMES), RUINED)
    worse = check(read_evidence(write_export(tmp_path / "bad", everything)), before, POLICY)
    assert worse.broken_stage == "torch"
    assert {one.name for one in worse.checks if one.failed} == {"baseline"}
    assert check(before, export(tmp_path / "bad2", ort=RUINED, ort_x86=RUINED), POLICY).overall == "pass"
    follows_the_schema(worse)


def stored(tmp_path: Path, change: Change, **wrong: Sequence[int]) -> None:
    update(export(tmp_path / "accepted", **wrong), tmp_path / "baselines", ("ort", "ort x86"), change)


def test_against_stored_baselines_and_both_anchors(tmp_path: Path) -> None:
    stored(tmp_path, Change(reason="1.0", commit=None, release=True))
    drifted = {"ort": range(70), "ort_x86": range(70)}
    stored(tmp_path, Change(reason="faster", commit=None, accept_regression=True), **drifted)
    baselines = read_baselines(tmp_path / "baselines", "rexnet_100")
    result = check(export(tmp_path / "new", **drifted), baselines, POLICY)
    found = by_name(result)
    assert found["ort", "baseline"].outcome == "pass"
    assert found["ort", "anchor-release"].outcome == "fail_certain"
    assert found["ort", "anchor-float"].outcome == "fail_certain"
    assert found["torch", "baseline"].outcome == "pass"
    assert sum(one.target == "torch" for one in result.checks) == 1
    assert result.baseline == str(tmp_path / "baselines" / "rexnet_100")
    follows_the_schema(result)
    tolerant = check(export(tmp_path / "new", **drifted), baselines, POLICY, float_policy=WIDE)
    assert by_name(tolerant)["ort", "anchor-float"].outcome == "pass_with_note"
    assert by_name(tolerant)["ort", "anchor-release"].outcome == "fail_certain"


def test_small_drops_cannot_creep(tmp_path: Path) -> None:
    """Each step is inconclusive against the last one; against the anchor their sum is not."""
    stored(tmp_path, Change(reason="1.0", commit=None, release=True))
    wrong = 40
    for step in range(5):
        result = check(
            export(tmp_path / f"{step}", ort=range(wrong + 4), ort_x86=range(wrong + 4)),
            read_baselines(tmp_path / "baselines", "rexnet_100"),
            POLICY,
            float_policy=WIDE,
        )
        assert by_name(result)["ort", "baseline"].outcome == "inconclusive"
        wrong += 4
        change = Change(reason="a little", commit=None, accept_regression=True)
        stored(tmp_path, change, ort=range(wrong), ort_x86=range(wrong))
    assert by_name(result)["ort", "anchor-release"].failed


def test_what_has_no_baseline_or_is_gone_is_not_compared(tmp_path: Path) -> None:
    old = export(tmp_path / "old")
    folder = write_export(tmp_path / "new")
    report = json.loads((folder / "report.json").read_text())
    report["targets"]["ort"]["presets"] = {}
    gone = check(read_evidence(edit(folder, **report)), old, POLICY)
    assert (gone.overall, gone.exit_code) == ("not_compared", 6)
    assert sentence(by_name(gone)["ort x86", "baseline"]).endswith(
        f"has no ort x86, but {old.source} has; export it again"
    )
    new = check(old, read_evidence(folder), POLICY)
    assert (new.overall, new.exit_code) == ("not_compared", 6)
    assert sentence(by_name(new)["ort x86", "baseline"]) == (
        f"{folder} has no ort x86, but {old.source} has; export it there too, or leave it out with --target"
    )
    update(old, tmp_path / "baselines", ("ort",), Change(reason="the first", commit=None))
    unknown = check(old, read_baselines(tmp_path / "baselines", "rexnet_100"), POLICY)
    assert (unknown.overall, unknown.exit_code) == ("not_compared", 6)
    assert sentence(by_name(unknown)["ort x86", "baseline"]).endswith("has; accept it with rexnet-gate update")
    assert check(old, read_evidence(folder), POLICY, targets=["ort"]).overall == "pass"
    follows_the_schema(new)


def test_what_did_not_run_is_not_compared(tmp_path: Path) -> None:
    folder = write_export(tmp_path)
    report = json.loads((folder / "report.json").read_text())
    report["targets"]["ort"]["executed_by"] = {"not_measured": "no runtime here"}
    result = check(read_evidence(edit(folder, **report)), None, POLICY, float_baseline=True)
    assert result.exit_code == 6
    assert sentence(by_name(result)["ort", "float"]) == "no runtime here"


def test_a_failure_outweighs_what_was_not_compared(tmp_path: Path) -> None:
    folder = write_export(tmp_path, {"ort-x86": RUINED})
    report = json.loads((folder / "report.json").read_text())
    report["targets"]["ort"]["executed_by"] = {"not_measured": "no runtime here"}
    assert check(read_evidence(edit(folder, **report)), None, POLICY, float_baseline=True).exit_code == 1


def test_too_few_images(tmp_path: Path) -> None:
    strict = Policy(margin=0.005, tolerance=0.0025)
    result = check(export(tmp_path), None, strict)
    assert (result.overall, result.exit_code) == ("inconclusive", 3)
    assert by_name(result)["ort", "chain"].numbers.more_images == 198  # type: ignore[union-attr]
    warned = check(export(tmp_path), None, Policy(margin=0.005, tolerance=0.0025, on_inconclusive="warn"))
    assert (warned.overall, warned.exit_code) == ("inconclusive", 0)


def test_another_runtime_is_refused(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "new")
    report = json.loads((folder / "report.json").read_text())
    report["targets"]["ort"]["executed_by"] = "ONNX Runtime 1.27.0"
    with pytest.raises(BaselineError, match=r"ort ran on ONNX Runtime 1.27.0, in .* on ONNX Runtime 1.26.0"):
        check(read_evidence(edit(folder, **report)), export(tmp_path / "old"), POLICY)
    report["targets"]["ort"]["executed_by"] = "ONNX Runtime 1.26.3"
    assert check(read_evidence(edit(folder, **report)), export(tmp_path / "old"), POLICY).overall == "pass"


def test_another_release_of_torch_is_the_same_runtime() -> None:
    assert runtime("torch 2.15.0 on CPU") == runtime("torch 2.16.1 on CPU") != runtime("torch 2.15.0 on CUDA")


@pytest.mark.parametrize(
    ("processor", "notes"),
    [("an abacus", 1), ("a processor", 0), (None, 0)],
)
def test_another_processor_is_noted(tmp_path: Path, processor: str | None, notes: int) -> None:
    folder = write_export(tmp_path / "new")
    environment = json.loads((folder / "report.json").read_text())["environment"]
    ours, theirs = (
        read_evidence(edit(folder, environment=environment | {"processor": name}))
        for name in (processor, "a processor")
    )
    found = check(ours, theirs, POLICY).notes
    assert len(found) == notes
    assert all("ran on a processor, the candidate on an abacus" in note for note in found)
    update(theirs, tmp_path / "baselines", ("ort",), Change(reason="first", commit=None))
    assert len(check(ours, read_baselines(tmp_path / "baselines", "rexnet_100"), POLICY).notes) == notes


def test_a_graph_that_only_one_export_has_is_compared_with_nothing(tmp_path: Path) -> None:
    old = export(tmp_path)
    fewer = replace(old, stages={name: old.stages[name] for name in ("float", "quantized")})
    asked = [one.target for one in check(old, fewer, POLICY, targets=["ort"]).checks if one.name == "baseline"]
    assert asked == ["torch", "float", "quantized", "ort"]


@pytest.mark.parametrize(
    ("part", "step"),
    [("current", "rexnet-gate update"), ("release_anchor", "rexnet-gate update --release")],
)
def test_the_step_for_another_runtime_moves_what_ran_on_it(tmp_path: Path, part: str, step: str) -> None:
    stored(tmp_path, Change(reason="1.0", commit=None, release=True))
    one = read_baselines(tmp_path / "baselines", "rexnet_100")["ort"]
    older = replace(getattr(one, part), executed_by="ONNX Runtime 1.20.0")
    with pytest.raises(BaselineError, match=f"accept the new one with {step}$"):
        check(export(tmp_path / "new"), {"ort": replace(one, **{part: older})}, POLICY, targets=["ort"])


@pytest.mark.parametrize("changed", [{"precision": "fp16"}, {"model": {"name": "rexnet_130"}}])
def test_another_network_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    folder = write_export(tmp_path / "new")
    report = json.loads((folder / "report.json").read_text())
    changed = {key: report[key] | value if isinstance(value, dict) else value for key, value in changed.items()}
    with pytest.raises(BaselineError, match="compare the same"):
        check(read_evidence(edit(folder, **changed)), export(tmp_path / "old"), POLICY)


def test_other_images_are_refused(tmp_path: Path) -> None:
    other = read_evidence(write_export(tmp_path / "new", images=500))
    with pytest.raises(BaselineError, match="500 and 400 images"):
        check(other, export(tmp_path / "old"), POLICY)
    stored(tmp_path, Change(reason="1.0", commit=None))
    with pytest.raises(BaselineError, match="500 and 400 images"):
        check(other, read_baselines(tmp_path / "baselines", "rexnet_100"), POLICY)


def test_an_unknown_target(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--target tflite: .* has ort, ort x86"):
        check(export(tmp_path), None, POLICY, targets=["tflite"])


def test_an_unknown_target_is_told_whose_the_known_ones_are(tmp_path: Path) -> None:
    new, old = export(tmp_path / "new"), export(tmp_path / "old")
    less = replace(new, targets={"ort": new.targets["ort"]})
    with pytest.raises(UsageError) as refused:
        check(less, old, POLICY, targets=["ort-x86"])
    assert str(refused.value) == (
        f"--target ort-x86: {new.source} has ort; {old.source} also ort x86; did you mean ort x86?"
    )


def test_flipped_images_are_listed_lost_ones_first(tmp_path: Path) -> None:
    folder = write_export(tmp_path, {"ort": [*range(5, 40), 50, 60]})
    flips = by_name(check(read_evidence(folder), None, WIDE, float_baseline=True))["ort", "float"].flips
    assert [flip.id for flip in flips] == [f"photos/{index}.png" for index in (50, 60, 0, 1, 2, 3, 4)]
    assert (flips[0].label, flips[0].reference, flips[0].candidate) == (CLASSES[2], CLASSES[2], CLASSES[0])
    assert flips[0].reference_confidence == flips[0].candidate_confidence == pytest.approx(0.9647, abs=1e-4)


def test_baselines_know_fewer_probabilities(tmp_path: Path) -> None:
    stored(tmp_path, Change(reason="1.0", commit=None))
    result = check(export(tmp_path / "new", ort=range(41)), read_baselines(tmp_path / "baselines", "rexnet_100"), WIDE)
    assert by_name(result)["ort", "baseline"].flips[0].reference_confidence == pytest.approx(0.965, abs=1e-3)
    assert by_name(result)["ort", "anchor-float"].flips[0].reference_confidence is None


def test_claims_of_failure_are_corrected_for_the_number_of_targets(tmp_path: Path) -> None:
    eight = range(48)
    policy = Policy(margin=0.019, tolerance=0.005, fail_alpha=0.005)
    alone = check(export(tmp_path / "1", ort=eight), None, policy, float_baseline=True, targets=["ort"])
    both = check(export(tmp_path / "2", ort=eight), None, policy, float_baseline=True)
    assert by_name(alone)["ort", "float"].outcome == "fail"
    assert by_name(both)["ort", "float"].outcome == "inconclusive"


def test_the_ratio_target(tmp_path: Path) -> None:
    policy = Policy(margin=0.2, tolerance=0.1, ratio=0.98)
    result = check(export(tmp_path, ort=range(100), ort_x86=()), None, policy, float_baseline=True)
    assert by_name(result)["ort", "ratio"].outcome == "fail"
    assert by_name(result)["ort x86", "ratio"].outcome == "pass"
    follows_the_schema(result)


def test_the_schema_refuses_anything_else(tmp_path: Path) -> None:
    content = check(export(tmp_path), None, POLICY).to_json()
    for broken in (
        content | {"extra": 1},
        content | {"checks": []},
        content | {"exit_code": 7},
        content | {"checks": [content["checks"][0] | {"outcome": "fine"}]},
        {key: value for key, value in content.items() if key != "images"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema())


def test_logits_of_another_size_are_no_trouble(tmp_path: Path) -> None:
    """Probabilities of large logits do not overflow."""
    folder = write_export(tmp_path)
    found = read_evidence(edit(folder, {"ort": logits(400, ()) * 1e4}))
    assert found.targets["ort"].confidences == pytest.approx(1.0)


def test_the_same_files_pass_with_however_few_images(tmp_path: Path) -> None:
    ours, theirs = (write_export(tmp_path / name, images=60) for name in ("ours", "theirs"))
    result = check(read_evidence(ours), read_evidence(theirs), POLICY)
    baselines = [each for each in result.checks if each.name == "baseline"]
    assert {each.outcome for each in baselines} == {"pass"}
    assert all("the same file" in each.message for each in baselines)
    # The same digest with other classes is another matter: kernels differ, and statistics decide.
    moved = edit(theirs, {"ort": logits(60, range(42))})
    result = check(read_evidence(moved), read_evidence(ours), POLICY)
    assert by_name(result)["ort", "baseline"].outcome == "inconclusive"
    assert by_name(result)["ort x86", "baseline"].outcome == "pass"


def float_artifact(folder: Path, **wrong: Sequence[int]) -> Evidence:
    """An export of 60 images whose `ort` is the float network in float32, and `ort x86` with it."""
    names = {name.replace("_", "-"): images for name, images in wrong.items()}
    made = write_export(folder, names, images=60)
    targets = json.loads((made / "report.json").read_text())["targets"]
    targets["ort"]["precision"] = "fp32"
    return read_evidence(edit(made, targets=targets))


def test_a_float32_file_is_asked_whether_it_is_the_float_network_not_the_quantized_one(tmp_path: Path) -> None:
    result = check(float_artifact(tmp_path, onnx_quantized=range(60)), None, POLICY, float_baseline=True)
    found = {key: (each.outcome, each.decided_by) for key, each in by_name(result).items() if key[0].startswith("ort")}
    assert found == {
        ("ort", "agreement"): ("pass", "agreement"),
        ("ort x86", "agreement"): ("pass", "agreement"),
        ("ort", "float"): ("pass", "same weights"),
        ("ort x86", "float"): ("pass", "same weights"),
    }
    follows_the_schema(result)


def test_a_float32_file_that_is_another_network_fails(tmp_path: Path) -> None:
    result = check(float_artifact(tmp_path, ort=range(42)), None, POLICY)
    assert by_name(result)["ort", "agreement"].message == "chooses as torch on all but 2 of 60 images"
    assert by_name(result)["ort", "agreement"].failed
    assert not by_name(result)["ort x86", "agreement"].failed


def test_a_float32_file_stands_beside_the_float_anchor_of_its_checkpoint(tmp_path: Path) -> None:
    evidence = float_artifact(tmp_path / "out")
    update(evidence, tmp_path / "kept", ("ort",), Change(reason="first", commit=None))
    kept = read_baselines(tmp_path / "kept", evidence.model)
    found = by_name(check(evidence, kept, POLICY, targets=["ort"]))["ort", "anchor-float"]
    assert (found.outcome, found.decided_by) == ("pass", "same weights")
    retrained = replace(evidence, targets={"ort": replace(evidence.targets["ort"], float_of="9" * 64)})
    assert by_name(check(retrained, kept, POLICY))["ort", "anchor-float"].outcome == "inconclusive"


def on_some(folder: Path, places: Sequence[int], wrong: Sequence[int]) -> Evidence:
    """An export of 400 images whose file for ARM was asked about some of them."""
    some = np.array(places, np.uint32)
    arrays = {"ort": logits(400, wrong)[some], "ort.images": some}
    return read_evidence(edit(write_export(folder), arrays))


EVEN = range(0, 400, 2)
EACH_20TH = range(0, 400, 20)


def test_files_are_compared_on_the_images_that_both_were_asked_about(tmp_path: Path) -> None:
    """Either way round; images 0 to 138 are lost, 50 of the even ones more than before."""
    all_of_it, lost = export(tmp_path / "all"), on_some(tmp_path / "lost", EVEN, RUINED)
    for candidate, baseline, worse, better in ((lost, all_of_it, 50, 0), (all_of_it, lost, 0, 50)):
        result = check(candidate, baseline, WIDE)
        numbers = by_name(result)["ort", "baseline"].numbers
        assert numbers is not None
        assert (numbers.images, numbers.worse, numbers.better) == (200, worse, better)
        assert by_name(result)["ort x86", "baseline"].numbers.images == 400  # type: ignore[union-attr]
        follows_the_schema(result)
    failed = by_name(check(lost, all_of_it, WIDE))["ort", "baseline"]
    assert failed.outcome == "fail_certain"
    assert [flip.id for flip in failed.flips] == [f"photos/{index}.png" for index in range(40, 140, 2)]


def test_two_that_were_asked_about_some_images_share_some(tmp_path: Path) -> None:
    other, some = on_some(tmp_path / "a", EACH_20TH, ()), on_some(tmp_path / "b", range(0, 400, 8), ())
    found = by_name(check(some, other, WIDE))["ort", "baseline"]
    assert found.numbers is not None
    assert found.numbers.images == 10


def test_the_same_file_passes_on_however_few_images(tmp_path: Path) -> None:
    result = check(on_some(tmp_path / "a", EACH_20TH, range(40)), export(tmp_path / "b"), POLICY, targets=["ort"])
    found = by_name(result)["ort", "baseline"]
    assert (found.outcome, found.message) == ("pass", "the same file, byte for byte, and the same classes")


def test_too_few_shared_images_decide_nothing_and_say_so(tmp_path: Path) -> None:
    result = check(on_some(tmp_path / "a", EACH_20TH, range(2)), export(tmp_path / "b"), POLICY, targets=["ort"])
    found = by_name(result)["ort", "baseline"]
    assert found.outcome == "inconclusive"
    assert re.search("about [0-9]+ more images are needed; export with --proof full", found.next_step or "")
    assert re.search("about [0-9]+ more images are needed; export with --proof full", sentence(found))
    assert result.notes == (
        "2 of 9 checks are on 20 of 400 images (export with --proof full for all): ort chain, ort baseline",
    )


def test_a_graph_of_fewer_images_is_named_as_are_files(tmp_path: Path) -> None:
    """Every file is compared with the last one, so on no more images than that."""
    some = np.array(EVEN, np.uint32)
    arrays = {"onnx-quantized": logits(400, range(40))[some], "onnx-quantized.images": some}
    candidate = read_evidence(edit(write_export(tmp_path), arrays))
    result = check(candidate, None, replace(WIDE, ratio=0.9), float_baseline=True)
    assert by_name(result)["ort", "chain"].numbers.images == 200  # type: ignore[union-attr]
    head, _, names = result.notes[0].partition(": ")
    assert head == "3 of 9 checks are on 200 of 400 images (export with --proof full for all)"
    assert names == "quantized chain, ort chain, ort x86 chain"
    assert result_words(result).line == "PASS: 9 checks, 6 on 400 images and 3 on 200"
    assert images_said(result) == "400 and 200 images"


def test_a_ratio_is_on_the_images_of_its_comparison(tmp_path: Path) -> None:
    few = on_some(tmp_path, EVEN, ())
    result = check(few, None, replace(WIDE, ratio=0.9), float_baseline=True, targets=["ort"])
    assert [one.images for one in result.checks if one.target == "ort"] == [200, 200, 200]
    assert result.notes[0].endswith(": ort chain, ort float, ort ratio to torch")


def test_without_a_shared_image_nothing_is_compared(tmp_path: Path) -> None:
    result = check(on_some(tmp_path / "a", EVEN, ()), on_some(tmp_path / "b", range(1, 400, 2), ()), POLICY)
    found = by_name(result)["ort", "baseline"]
    assert found.outcome == "not_compared"
    assert "were asked about different images; export with --proof full" in sentence(found)
    follows_the_schema(result)


def test_a_stored_baseline_of_some_images_is_compared_on_them(tmp_path: Path) -> None:
    place = tmp_path / "baselines"
    update(on_some(tmp_path / "a", EVEN, range(40)), place, ("ort",), Change(reason="1.0", commit=None, release=True))
    result = check(export(tmp_path / "b", ort=RUINED), read_baselines(place, "rexnet_100"), WIDE, targets=["ort"])
    images = {
        name: one.numbers.images for (_, name), one in by_name(result).items() if one.numbers and one.target == "ort"
    }
    assert images == {"chain": 400, "baseline": 200, "anchor-float": 400, "anchor-release": 200}
