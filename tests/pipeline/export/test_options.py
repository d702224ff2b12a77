"""Options from TOML files and keywords."""

from dataclasses import fields
from pathlib import Path

import pytest

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.export.options import Options, from_mapping, read_config


def written(folder: Path, text: str) -> Path:
    path = folder / "options.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_holds_the_same_options(tmp_path: Path) -> None:
    text = 'target = ["coreml", "ort"]\nprecision = "fp16"\ncalibration-data = "photos"\nimage-size = 96\nseed = 3\n'
    options = Options(**read_config(written(tmp_path, text)))
    assert options.target == ("coreml", "ort")
    assert options.precision == "fp16"
    assert options.calibration_data == Path("photos")
    assert (options.image_size, options.seed) == (96, 3)


def test_a_fraction_may_be_a_whole_number(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "max-drop = 1")) == {"max_drop": 1}
    assert Options(**read_config(written(tmp_path, "max-drop = 0.5"))).max_drop == 0.5


def test_how_emulated_files_are_judged_in_toml(tmp_path: Path) -> None:
    assert Options().proof == "quick"
    assert Options(**read_config(written(tmp_path, 'proof = "full"'))).proof == "full"


def test_preprocessing_in_toml(tmp_path: Path) -> None:
    text = 'crop-mode = "squash"\ncrop-ratio = 1\nmean = [0, 0.5, 1]\nstd = 0.5\n'
    options = Options(**read_config(written(tmp_path, text)))
    assert options.preprocess == {
        "size": None,
        "crop_mode": "squash",
        "crop_ratio": 1,
        "interpolation": None,
        "mean": (0.0, 0.5, 1.0),
        "std": (0.5,),
    }


@pytest.mark.parametrize(("text", "size"), [("96", 96), ("[96]", 96), ("[160, 80]", (160, 80)), ("[96, 96]", (96, 96))])
def test_an_image_size_may_be_two_numbers(tmp_path: Path, text: str, size: object) -> None:
    assert Options(**read_config(written(tmp_path, f"image-size = {text}"))).image_size == size


def test_one_target_needs_no_list(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, 'target = "ort"')) == {"target": ("ort",)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("colour = 1", "unknown key 'colour'", id="unknown"),
        pytest.param("calibration-image = 1", "did you mean calibration-images?", id="near"),
        pytest.param('seed = "x"', "seed = 'x'", id="text for a number"),
        pytest.param("seed = true", "seed = True", id="truth for a number"),
        pytest.param("max-drop = true", "max-drop = True", id="truth for a fraction"),
        pytest.param('max-drop = "0.5"', "max-drop = '0.5'", id="text for a fraction"),
        pytest.param("checkpoint = 3", "checkpoint = 3", id="number for text"),
        pytest.param("target = []", "target = []", id="no target"),
        pytest.param("target = [1]", "target = [1]", id="number for a target"),
        pytest.param("precision =", "is not TOML", id="syntax"),
        pytest.param("image-size = []", "not of type whole number or two", id="no side"),
        pytest.param('mean = "x"', "mean = 'x' is not of type number or list of numbers", id="text for colours"),
        pytest.param('std = ["a", "b", "c"]', "not of type number or list of numbers", id="texts for colours"),
        pytest.param("seed = " + "9" * 4301, "is not TOML", id="4301 digits"),
        pytest.param("max-drop = " + "9" * 400, "not of type float", id="400 digits"),
        pytest.param("mean = " + "[" * 2000, "is not TOML", id="deep"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"options\.toml") as caught:
        read_config(written(tmp_path, text))
    assert said in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"image_size": 100}, "try 96 or 112", id="size"),
        pytest.param({"image_size": 7}, "try 32 or 48", id="small"),
        pytest.param({"image_size": 2**20}, "32 to 4096", id="large size"),
        pytest.param({"crop_mode": "centre"}, "--crop-mode centre: choose one of center, squash, border", id="mode"),
        pytest.param({"crop_ratio": 1.5}, "--crop-ratio 1.5: must be above 0 and at most 1", id="ratio"),
        pytest.param({"crop_ratio": 0}, "--crop-ratio 0", id="no ratio"),
        pytest.param({"interpolation": "area"}, "--interpolation area: choose one of nearest", id="interpolation"),
        pytest.param({"mean": [0.5] * 65}, "one for all channels or one each", id="65 means"),
        pytest.param({"mean": [123.7, 116.3, 1e9]}, "--mean 123.7", id="mean beyond all"),
        pytest.param({"std": [0.2, 0, 0.2]}, "--std 0.2 0 0.2: must be numbers above 0", id="std"),
        pytest.param({"std": [0.2, float("inf"), 0.2]}, "--std 0.2 inf", id="infinite std"),
        pytest.param({"calibration_images": 0}, "--calibration-images 0", id="calibration"),
        pytest.param({"eval_images": -1}, "--eval-images -1", id="evaluation"),
        pytest.param({"seed": -1}, "--seed -1", id="seed"),
        pytest.param({"seed": 2**40}, "--seed", id="large seed"),
        pytest.param({"precision": "int4"}, "int8, fp16, fp32, w8, w4", id="precision"),
        pytest.param({"proof": "some"}, "--proof 'some': choose one of quick, full", id="proof"),
        pytest.param({"proof": "full", "regression": True}, "--regression and --proof", id="proof of numbers"),
        pytest.param({"statistic": "median"}, "median", id="statistic"),
        pytest.param({"max_drop": -0.5}, "--max-drop -0.5: must be above 0", id="negative drop"),
        pytest.param({"max_drop": 0}, "--max-drop 0: must be above 0", id="no drop"),
        pytest.param({"max_drop": 100.5}, "--max-drop 100.5", id="drop beyond all"),
        pytest.param({"max_drop": float("nan")}, "--max-drop nan", id="drop of nothing"),
        pytest.param({"max_drop": 1, "precision": "fp16"}, "only --int8 has layers", id="drop in float"),
        pytest.param({"max_drop": 1, "qparams": "t.json"}, "t.json decides what is in float", id="drop of a table"),
    ],
)
def test_values_no_run_could_honour(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options(**from_mapping(values, "test"))
    assert said in str(caught.value)


def test_every_option_has_a_help_text() -> None:
    assert all(option.metadata["help"] for option in fields(Options))
