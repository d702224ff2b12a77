"""Who states the preprocessing: flags before the checkpoint, and what nobody states is assumed aloud."""

from __future__ import annotations

import pytest

from rexnet_export.pipeline.core.errors import UsageError
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


def test_one_number_serves_for_all_channels() -> None:
    found = settled({"mean": (0.5,)}, {"std": (0.25,)}, {}, channels=4).preprocess
    assert (found.mean, found.std, found.channels) == ((0.5,) * 4, (0.25,) * 4, 4)
    assert settled({"mean": (0.5,)}, {}, {}).preprocess.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "nothing states the mean of the network's 4 channels: give --mean with 4 numbers, or one for all"),
        ({"mean": (0.5,)}, "nothing states the std of the network's 4 channels: give --std"),
        ({"mean": (0.1, 0.2, 0.3)}, "0.1 0.2 0.3 is not the mean of the network's 4 channels: give --mean"),
        ({"mean": (0.5,) * 65}, "one for all channels or one each"),
        ({"std": (0.5, 0.0)}, "must be numbers above 0"),
    ],
)
def test_other_channels_have_no_usual_mean(given: dict[str, tuple[float, ...]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        settled(given, {}, {}, channels=4)


@pytest.mark.parametrize("by", ["given", "stated"])
def test_a_mean_of_pixels_to_255_is_refused_whoever_states_it(by: str) -> None:
    mean = {"mean": (123.675, 116.28, 103.53)}
    given, stated = (mean, {}) if by == "given" else ({}, mean)
    with pytest.raises(UsageError, match=r"--mean 123.675 116.28 103.53: .* divided by 255"):
        settled(given, stated, {})
    assert settled({"mean": (1.0, 0.5, 0.0)}, stated, {}).preprocess.mean == (1.0, 0.5, 0.0)


@pytest.mark.parametrize("by", ["given", "stated"])
def test_a_std_of_pixels_to_255_is_refused_whoever_states_it(by: str) -> None:
    std = {"mean": (0.0,), "std": (255.0, 255.0, 255.0)}
    given, stated = (std, {}) if by == "given" else ({}, std)
    with pytest.raises(UsageError, match=r"--std 255 255 255: no std of pixels in \[0, 1\]; .* divided by 255"):
        settled(given, stated, {})
    assert settled({"std": (1.0,)}, stated, {}).preprocess.std == (1.0, 1.0, 1.0)
