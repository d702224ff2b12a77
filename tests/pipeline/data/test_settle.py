"""Who states the preprocessing: flags before the checkpoint, and what nobody states is assumed aloud."""

from __future__ import annotations

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.settle import settled

ALL = ("size", "crop_mode", "crop_ratio", "interpolation", "mean", "std")


def test_flags_win_over_the_checkpoint_and_the_rest_is_assumed() -> None:
    stated = {"size": 96, "crop_ratio": 1.0, "mean": (0.5, 0.5, 0.5)}
    found = settled({"size": 64, "std": None, "crop_mode": "squash"}, stated, dict.fromkeys(stated, "config.json"))
    assert found.preprocess == Preprocess(size=64, crop_mode="squash", crop_ratio=1.0, mean=(0.5, 0.5, 0.5))
    assert found.source == {
        "size": "flags",
        "crop_mode": "flags",
        "crop_ratio": "config.json",
        "interpolation": "assumed",
        "mean": "config.json",
        "std": "assumed",
    }
    assert found.assumption is not None
    assert "interpolation bicubic, std 0.229 0.224 0.225;" in found.assumption
    assert found.assumption.endswith("give --interpolation, --std")


def test_nothing_is_assumed_where_all_is_stated() -> None:
    stated = {name: getattr(Preprocess(), name) for name in ALL}
    assert settled({}, stated, {}).assumption is None
    assert settled(stated, {}, {}).assumption is None


def test_a_bare_file_leaves_all_to_assume() -> None:
    found = settled(dict.fromkeys(ALL), {}, {})
    assert set(found.source.values()) == {"assumed"}
    assert found.assumption is not None
    for flag in ("--image-size", "--crop-mode", "--crop-ratio", "--interpolation", "--mean", "--std"):
        assert flag in found.assumption
