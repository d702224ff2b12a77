"""Options from TOML files and keywords."""

from dataclasses import fields
from pathlib import Path

import pytest

from rexnet_export.pipeline.errors import UsageError
from rexnet_export.pipeline.options import Options, from_mapping, read_config


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


def test_one_target_needs_no_list(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, 'target = "ort"')) == {"target": ("ort",)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("colour = 1", "unknown key 'colour'", id="unknown"),
        pytest.param("calibration-image = 1", "did you mean calibration-images?", id="near"),
        pytest.param('seed = "x"', "seed = 'x'", id="text for a number"),
        pytest.param("seed = true", "seed = True", id="truth for a number"),
        pytest.param("checkpoint = 3", "checkpoint = 3", id="number for text"),
        pytest.param("target = []", "target = []", id="no target"),
        pytest.param("target = [1]", "target = [1]", id="number for a target"),
        pytest.param("precision =", "is not TOML", id="syntax"),
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
        pytest.param({"image_size": 100}, "try 96 or 128", id="size"),
        pytest.param({"image_size": 7}, "try 32 or 64", id="small"),
        pytest.param({"calibration_images": 0}, "--calibration-images 0", id="calibration"),
        pytest.param({"eval_images": -1}, "--eval-images -1", id="evaluation"),
        pytest.param({"seed": -1}, "--seed -1", id="seed"),
        pytest.param({"seed": 2**40}, "--seed", id="large seed"),
        pytest.param({"precision": "int4"}, "int8, fp16, fp32", id="precision"),
        pytest.param({"statistic": "median"}, "median", id="statistic"),
    ],
)
def test_values_no_run_could_honour(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options(**from_mapping(values, "test"))
    assert said in str(caught.value)


def test_every_option_has_a_help_text() -> None:
    assert all(option.metadata["help"] for option in fields(Options))
