"""Our checkpoints return what was saved; whatever is no sound checkpoint is one clear line."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import same_state, tiny, written
from torch import nn

from rexnet_export.pipeline.checkpoint.load import load, load_checkpoint, save_checkpoint
from rexnet_export.pipeline.checkpoint.metadata import encode, parse_preprocess
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import Preprocess, stored_file
from rexnet_export.pipeline.model.architecture import Architecture, architecture, stages_at
from rexnet_export.pipeline.model.rexnet import ReXNet


def refusal(path: Path) -> str:
    """The message of the one error, which must be a single printable line."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.isprintable()
    assert path.name in message
    return message


LABELS = ("ä", "b", "b", 'quo"te')
PREPROCESS = Preprocess(size=64, crop_ratio=1.0, interpolation="bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def saved(
    path: Path,
    network: ReXNet | None = None,
    *,
    labels: tuple[str, ...] | None = LABELS,
    preprocess: Preprocess | None = PREPROCESS,
    metadata: Mapping[str, str] = MappingProxyType({"recipe": "ten epochs"}),
    half: bool = False,
) -> Path:
    save_checkpoint(path, network or tiny(), labels=labels, preprocess=preprocess, metadata=metadata, half=half)
    return path


@pytest.mark.parametrize(
    "spec",
    [
        architecture(width=0.3, classes=4),
        architecture("lite", 0.5, classes=4),
        architecture(width=0.3, classes=4, stages=stages_at(0.5)),
    ],
    ids=["v1", "lite", "half the blocks"],
)
def test_our_own_format_returns_everything_that_was_saved(tmp_path: Path, spec: Architecture) -> None:
    network = ReXNet(spec).to(memory_format=torch.channels_last)
    path = saved(tmp_path / "new" / "folder" / "a.safetensors", network)
    loaded = load(str(path))
    assert loaded.network.spec == spec
    assert same_state(loaded.network.state_dict(), network.state_dict())
    assert (loaded.labels, loaded.preprocess) == (LABELS, PREPROCESS)
    assert loaded.file == stored_file(path)
    assert loaded.metadata["recipe"] == "ten epochs"
    assert loaded.metadata["keys"] == loaded.metadata["format"] == "rexnet-export"
    again = saved(tmp_path / "b.safetensors", loaded.network, metadata=loaded.metadata)
    assert load_checkpoint(again).metadata == loaded.metadata


def test_strides_of_another_depth_are_stated_and_believed_only_where_they_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", ReXNet(architecture(width=0.1, classes=4, stages=stages_at(0.2))))
    assert load_checkpoint(path).notes == ()
    content = path.read_bytes()
    assert b"1 2 2 2 1 2" in content
    path.write_bytes(content.replace(b"1 2 2 2 1 2", b"1 2 2 1 2 2"))
    with pytest.raises(CheckpointError, match="says strides '1 2 2 1 2 2', but its tensors say '1 2 2 2 1 2'"):
        load_checkpoint(path)


def test_labels_and_preprocessing_may_be_unknown_and_are_never_inherited(tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(tmp_path / "a.safetensors"))
    path = saved(tmp_path / "b.safetensors", metadata=loaded.metadata, labels=None, preprocess=None)
    assert (load_checkpoint(path).labels, load_checkpoint(path).preprocess) == (None, None)


def test_a_width_beyond_two_decimals_is_kept(tmp_path: Path) -> None:
    spec = architecture(width=0.3125, classes=4)
    assert load_checkpoint(saved(tmp_path / "a.safetensors", ReXNet(spec))).network.spec == spec


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    many = {f"key{index}": "value" for index in range(20)}
    first, second = (saved(tmp_path / name, metadata=many).read_bytes() for name in ("a", "b"))
    assert first == second


def test_half_storage_halves_the_file_and_keeps_what_does_not_fit(tmp_path: Path) -> None:
    network = tiny()
    network.features[3].conv_dw.bn.running_var[0] = 1e6
    half, full = saved(tmp_path / "half", network, half=True), saved(tmp_path / "full", network)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    stored = load_file(half)
    kept = [name for name, tensor in stored.items() if tensor.dtype == torch.float32]
    assert kept == ["features.3.conv_dw.bn.running_var"]
    found, exact = load_checkpoint(half).network.state_dict(), network.state_dict()
    assert all(torch.allclose(found[name], exact[name], rtol=1e-3, atol=1e-7) for name in exact)


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.safetensors")
    before = path.read_bytes()
    partly = Path.write_bytes

    def disk_full(target: Path, content: bytes) -> int:
        partly(target, content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: No space left on device"):
        saved(path, tiny(seed=5))
    monkeypatch.undo()
    assert [member.name for member in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == before


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*file/a: "):
        saved(tmp_path / "file" / "a")


def test_a_broken_network_or_wrong_labels_are_not_saved(tmp_path: Path) -> None:
    network = tiny()
    with pytest.raises(CheckpointError, match="2 labels for a classifier of 4 classes"):
        saved(tmp_path / "a", labels=("a", "b"))
    network.head.fc.bias.data[1] = torch.nan
    with pytest.raises(CheckpointError, match=r"head\.fc\.bias has 1 NaN or infinite of 4"):
        saved(tmp_path / "a", network)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": "1.0"}, "says width '1.0', but its tensors say '0.1'"),
        ({"variant": "lite"}, "says variant 'lite'"),
        ({"use_se": "false"}, "says use_se 'false'"),
        ({"strides": "1 2 2"}, "says strides '1 2 2', but its tensors say '1 2 1 2 1 2 1 1 1 1 1 2 1 1 1 1'"),
        ({"classes": "5"}, "says classes '5'"),
        ({"format_version": "2"}, "has format_version '2'"),
        ({"labels": '["a"]'}, "names 1 labels for a classifier of 4 classes"),
        ({"labels": '{"a": 1}'}, "not a list of strings"),
        ({"labels": "[1, 2, 3, 4]"}, "not a list of strings"),
        ({"labels": "[" * 100_000}, "is not JSON"),
        ({"preprocess": "nonsense"}, "is not JSON"),
        ({"preprocess": "{}"}, "needs exactly size, crop_mode"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    assert complaint in refusal(with_metadata(tmp_path, change))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("size", value) for value in (0, -64, 64.0, True, "64", 10**9)),
        *(("crop_ratio", value) for value in (0, 1.5, float("nan"), "1", None)),
        *(("interpolation", value) for value in ("cubic", ["bicubic"], 3)),
        *(("mean", value) for value in ([0.5, 0.5], 0.5, [0.5, 0.5, "0.5"], [0.5, 0.5, float("inf")], [1, 2, 10**400])),
        *(("std", value) for value in ([0, 1, 1], [1, -1, 1])),
    ],
)
def test_preprocessing_is_checked_value_by_value(tmp_path: Path, key: str, value: object) -> None:
    fields = json.loads('{"size": 64, "crop_ratio": 1, "interpolation": "nearest", "mean": [0,0,0], "std": [1,1,1]}')
    assert parse_preprocess(fields, "x").size == 64
    with pytest.raises(CheckpointError, match=f"preprocess of x has {key} "):
        parse_preprocess(fields | {key: value}, "x")


def with_metadata(folder: Path, change: dict[str, str]) -> Path:
    path = folder / "changed.safetensors"
    save_file(tiny().state_dict(), path, encode(tiny().spec, LABELS, PREPROCESS) | change)
    return path


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.pth") == f"no checkpoint at {tmp_path / 'absent.pth'}"
    (tmp_path / "empty.pth").touch()
    assert "is empty" in refusal(tmp_path / "empty.pth")
    assert "Is a directory" in refusal(tmp_path)
    (tmp_path / "page.pth").write_text("<html>\nnot found</html>")
    assert "is a web page, not weights: download the file itself" in refusal(tmp_path / "page.pth")
    (tmp_path / "other.pth").write_text("GIF89a\n")
    assert "neither a torch file, safetensors nor ONNX: it starts with b'GIF89a" in refusal(tmp_path / "other.pth")
    assert "holds no named tensors" in refusal(written(tmp_path / "list.pth", [torch.ones(3)]))
    assert "holds no named tensors" in refusal(written(tmp_path / "words.pth", {"a": 1, 2: torch.ones(3)}))


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_files(tmp_path: Path, form: str) -> None:
    path = tmp_path / "cut"
    if form == "safetensors":
        saved(path)
    else:
        torch.save(tiny().state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for length in (9, 20, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refusal(path)
    assert "is truncated" in refusal(path)


class Payload:
    """A pickle that creates a file as soon as anything unpickles it."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.evidence}",)


@pytest.mark.parametrize("form", ["zip", "legacy", *(f"protocol {n}" for n in range(pickle.HIGHEST_PROTOCOL + 1))])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, form: str) -> None:
    evidence, path = tmp_path / "evidence", tmp_path / "evil.pth"
    content = {"state_dict": tiny().state_dict(), "args": Payload(evidence)}
    if form.startswith("protocol"):
        path.write_bytes(pickle.dumps(content, int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    message = refusal(path)
    assert not evidence.exists()
    if form == "zip":
        assert "(posix.system), not only tensors; nothing in it was run" in message
    pickle.loads(pickle.dumps(Payload(evidence)))  # noqa: S301 - shows that the payload works where it is allowed to
    assert evidence.exists()


def test_another_network_is_reported_with_the_nearest_variant(tmp_path: Path) -> None:
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).state_dict()
    message = refusal(written(tmp_path / "other.pth", other))
    assert "nearest is rexnet_100: 0 tensors match, 351 missing (stem.conv.weight" in message
    assert "7 unexpected (0.weight, 0.bias, 1.weight, ...), 0 of wrong shape." in message


def test_a_nearly_fitting_network_names_what_does_not_fit(tmp_path: Path) -> None:
    state = tiny(width=1.23).state_dict()
    del state["features.3.se.fc1.weight"]
    state["extra\n\x1b[31m"] = torch.zeros(1)
    stem = state["stem.bn.weight"].numel()
    state["stem.conv.weight"] = torch.zeros(stem, 3, 5, 5)
    message = refusal(written(tmp_path / "near.pth", state))
    assert "nearest is rexnet_123: 411 tensors match, 1 missing (features.3.se.fc1.weight)" in message
    assert r"1 unexpected ('extra\n\x1b[31m')" in message
    assert f"1 of wrong shape (stem.conv.weight [{stem}, 3, 5, 5], not [{stem}, 3, 3, 3])" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_by_name(tmp_path: Path, value: float) -> None:
    state = tiny().state_dict()
    state["features.5.conv_pwl.conv.weight"][0, 1] = value
    message = refusal(written(tmp_path / "broken.pth", state))
    assert "features.5.conv_pwl.conv.weight has 1 NaN or infinite of" in message


@pytest.mark.parametrize(
    ("bias", "says"),
    [
        (torch.ones(4, dtype=torch.int32), "bias is int32, strided, on cpu: give dense"),
        (torch.empty(4, device="meta"), "bias is float32, strided, on meta: give dense"),
        (None, "bias is float32, a NoneType and no tensor: give dense"),
        ([1.0, 1.0, 1.0, 1.0], "bias is float32, a list and no tensor: give dense"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_a_bias_that_cannot_be_read_is_not_taken_for_none(
    bias: object, says: str, *, beside: bool, tmp_path: Path
) -> None:
    state = {**tiny().state_dict(), "head.fc.bias": bias}
    if beside:
        state = {name.removeprefix("head.") if "head." in name else f"body.{name}": state[name] for name in state}
    said = refusal(written(tmp_path / "bias.pth", state))
    assert says in said or (beside and "fc (bias [], weight [4, 128]) is no plain linear layer" in said)


def test_weights_that_are_no_dense_floats_are_refused(tmp_path: Path) -> None:
    state = tiny().state_dict()
    state["stem.conv.weight"] = state["stem.conv.weight"].to(torch.int8)
    assert "stem.conv.weight is int8, strided, on cpu: give dense" in refusal(written(tmp_path / "int8.pth", state))
    state["stem.conv.weight"] = torch.empty(state["stem.conv.weight"].shape, device="meta")
    assert "stem.conv.weight is float32, strided, on meta" in refusal(written(tmp_path / "meta.pth", state))
    state = tiny().state_dict()
    state["head.fc.weight"] = state["head.fc.weight"].to_sparse()
    assert "head.fc.weight is float32, sparse: give dense" in refusal(written(tmp_path / "sparse.pth", state))
    state = tiny().state_dict()
    state["stem.bn.running_var"][0] = -1
    assert "stem.bn.running_var has negative variances" in refusal(written(tmp_path / "negative.pth", state))
