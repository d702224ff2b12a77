"""`examples/classify.cpp` prepares photos to the bit as the export did, and answers as `predict` does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from shared import shared

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.records import (
    CROP_MODES,
    INTERPOLATIONS,
    CropMode,
    Interpolation,
    ModelCard,
    Preprocess,
)
from rexnet_export.pipeline.data.preprocess import resize_and_crop

EXAMPLE = Path(__file__).parents[3] / "examples" / "classify.cpp"
HEADERS = Path(os.environ.get("ONNXRUNTIME_HEADERS", "/usr/include/onnxruntime"))

# Photos and metadata in, the example's own pixels out.
HARNESS = """
#define main classify
#include "classify.cpp"
#undef main
int main(int, char** words) {
    About about;
    for (char** word = words + 3; *word; word += 2) about[word[0]] = word[1];
    try {
        const Image input = prepare(read_ppm(words[1]), rule_of(about));
        const char* bytes = reinterpret_cast<const char*>(input.rgb.data());
        std::ofstream(words[2], std::ios::binary).write(bytes, input.rgb.size());
        for (const std::string& label : listed(about, "labels")) std::printf("%s%c", label.c_str(), 0);
    } catch (const std::exception& error) {
        return std::fprintf(stderr, "%s\\n", error.what()), 1;
    }
}
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `classify` and `prepare`, built as the page says, against the library of the Python package."""
    compiler = shutil.which("g++")
    libraries = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    if not compiler or not libraries:
        pytest.skip("needs g++ and an onnxruntime with libonnxruntime.so")
    if not (HEADERS / "onnxruntime_cxx_api.h").is_file():
        pytest.skip(f"needs libonnxruntime-dev: no onnxruntime_cxx_api.h in {HEADERS} ($ONNXRUNTIME_HEADERS)")

    def build(folder: Path) -> None:
        folder.mkdir()
        for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
            (folder / name).symlink_to(libraries[-1])
        (folder / "prepare.cpp").write_text(HARNESS)
        flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{EXAMPLE.parent}", "-isystem", str(HEADERS)]
        link = ["-L", str(folder), "-lonnxruntime", f"-Wl,-rpath,{folder}"]
        for source in (EXAMPLE, folder / "prepare.cpp"):
            subprocess.run([compiler, *flags, str(source), *link, "-o", str(folder / source.stem)], check=True)

    return shared(tmp_path_factory, "cpp-example", build)


def ran(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False, timeout=120)


def photo(path: Path, width: int, height: int) -> Path:
    """Noise: bicubic and Lanczos overshoot at every pixel."""
    pixels = np.random.default_rng(width).choice(np.array([0, 3, 90, 252, 255], np.uint8), (height, width, 3))
    Image.fromarray(pixels).save(path)
    return path


def metadata(preprocess: Preprocess, labels: tuple[str, ...] = ("a",)) -> dict[str, str]:
    card = ModelCard(name="it", labels=labels, preprocess=preprocess, checkpoint_sha256="0" * 64)
    return describe(card, precision="int8")


def prepared(programs: Path, image: Path, about: dict[str, str]) -> subprocess.CompletedProcess[str]:
    entries = [word for entry in about.items() for word in entry]
    return ran(programs / "prepare", image, image.with_suffix(".rgb"), *entries)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("size", [64, (33, 96)], ids=str)
def test_photos_are_prepared_to_the_bit(
    programs: Path, tmp_path: Path, interpolation: Interpolation, crop_mode: CropMode, size: int | tuple[int, int]
) -> None:
    preprocess = Preprocess(
        size=size, crop_mode=crop_mode, crop_ratio=0.9, interpolation=interpolation, mean=(0.5, 0.2, 1.7)
    )
    for width, height in ((301, 200), (50, 177), (640, 480), (64, 64), (1, 3)):
        image = photo(tmp_path / f"{width}.ppm", width, height)
        done = prepared(programs, image, metadata(preprocess))
        assert done.stderr == ""
        pixels = np.fromfile(image.with_suffix(".rgb"), np.uint8).reshape(*preprocess.shape, 3)
        np.testing.assert_array_equal(pixels, resize_and_crop(Image.open(image), preprocess), f"{width} x {height}")


def test_labels_are_what_they_were(programs: Path, tmp_path: Path) -> None:
    labels = ("", 'a "b", [c]', "back\\slash/", "tab\tand\nline", "Käse €", "\U0001f9c0", "\x7f")
    done = prepared(programs, photo(tmp_path / "a.ppm", 9, 9), metadata(Preprocess(size=32), labels))
    assert tuple(done.stdout.split("\0")[:-1]) == labels


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("labels", '["a', "'labels' is damaged"),
        ("labels", '["\\u12', "'labels' is damaged"),
        ("labels", '["\\q"]', "'labels' is damaged"),
        ("labels", "", "'labels' is damaged"),
        ("input_size", "0", "'input_size' is damaged"),
        ("input_size", "32x", "'input_size' is damaged"),
        ("input_size", "123456", "'input_size' is damaged"),
        ("resize", "-5", "'resize' is damaged"),
        ("crop_mode", "top", "'crop_mode' is damaged"),
        ("interpolation", "random", "'interpolation' is damaged"),
        ("mean", "[0.5, 0.5, 0.5, 0.5]", "images of 4 channels"),
    ],
)
def test_metadata_that_it_does_not_cover_is_one_line(
    programs: Path, tmp_path: Path, key: str, value: str, said: str
) -> None:
    about = metadata(Preprocess(size=32)) | {key: value}
    done = prepared(programs, photo(tmp_path / "a.ppm", 9, 9), about)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    del about[key]
    assert f"no '{key}'" in prepared(programs, tmp_path / "a.ppm", about).stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a binary PPM"),
        (b"P5 2 2 255\n", "not a binary PPM"),
        (b"P6 2", "not a binary PPM"),
        (b"P6 two 2 255\n", "not a binary PPM"),
        (b"P6 2 2 65535\n" + bytes(24), "8 bits"),
        (b"P6 0 2 255\n", "no pixels"),
        (b"P6 -2 -2 255\n" + bytes(12), "no pixels"),
        (b"P6 99999 99999 255\n", "too many"),
        (b"P6 99999999999 1 255\n", "not a binary PPM"),
        (b"P6 2 2 255\n" + bytes(11), "ends early"),
        (b"P6 1000000 1 255\n" + bytes(3_000_000), "too elongated"),
        (b"P6 # a comment\n2 #\n2\n255\n" + bytes(12), ""),
    ],
    ids=range(12),
)
def test_what_is_no_photo_is_one_line(programs: Path, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.ppm").write_bytes(content)
    done = prepared(programs, tmp_path / "a.ppm", metadata(Preprocess(size=224)))
    assert done.returncode == (1 if said else 0)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == done.returncode


def test_the_answers_are_those_of_predict(
    programs: Path, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = [photo(tmp_path / f"{width}.ppm", width, height) for width, height in ((301, 200), (31, 77), (32, 32))]
    for file in (*exported.glob("*.ort"), *exported.glob("*-x86.onnx")):
        assert main(["predict", str(file), *map(str, photos), "--top", "10", "--json"]) == 0
        expected = json.loads(capfd.readouterr().out)["predictions"]
        done = ran(programs / "classify", file, *photos)
        assert (done.returncode, done.stderr) == (0, "")
        for line, answer in zip(done.stdout.splitlines(), expected, strict=True):
            guesses = [guess.rsplit(" ", 1) for guess in line.removeprefix(f"{answer['photo']} ").split(", ")]
            shown = [float(percent.removesuffix("%")) / 100 for _, percent in guesses]
            known = {guess["label"]: guess["probability"] for guess in answer["guesses"]}
            assert shown == pytest.approx(list(known.values())[:5], abs=6e-5)
            # By label: integers often tie, and then either order is right.
            assert shown == pytest.approx([known[label] for label, _ in guesses], abs=6e-5)


def test_files_that_it_does_not_cover_are_one_line(programs: Path, exported: Path, tmp_path: Path) -> None:
    image = photo(tmp_path / "a.ppm", 40, 30)
    (tmp_path / "none.ort").write_bytes(b"none")
    foreign = onnx.load(next(exported.glob("*-x86.onnx")))
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for file, said in (
        (tmp_path / "none.ort", "none.ort: "),
        (tmp_path / "missing.ort", "missing.ort: cannot be read"),
        (tmp_path / "foreign.onnx", "not written by rexnet-export"),
        (next(exported.glob("*-npu.onnx")), "gives no 'probabilities'"),
    ):
        done = ran(programs / "classify", file, image)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = ran(programs / "classify", image)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
