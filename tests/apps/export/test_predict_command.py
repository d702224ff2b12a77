"""`rexnet-export predict`: the file's own answers, prepared as its metadata says, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.data.preprocess import resize_and_crop
from rexnet_export.targets.isolation.isolated_file import IsolatedFile


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name, size in (("a.png", (90, 70)), ("b.jpg", (40, 120))):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def tflite(exported: Path) -> Path:
    return next(exported.glob("*.tflite"))


def test_the_answers_are_the_files_own(tflite: Path, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tflite), str(photos), "--top", "3", "--json"]) == 0
    answers = json.loads(capfd.readouterr().out)["predictions"]
    assert [Path(answer["photo"]).name for answer in answers] == ["a.png", "b.jpg"]
    with IsolatedFile(tflite) as file:
        card = card_from(file.inspect().metadata)
        pixels = [
            resize_and_crop(Image.open(photos / name).convert("RGB"), card.preprocess) for name in ("a.png", "b.jpg")
        ]
        logits = file.run(np.stack(pixels)).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for answer, expected in zip(answers, probabilities, strict=True):
        best = expected.argsort()[::-1][:3]
        assert [guess["label"] for guess in answer["guesses"]] == [card.labels[index] for index in best]
        assert [guess["probability"] for guess in answer["guesses"]] == pytest.approx(expected[best])


def test_a_photo_a_line(exported: Path, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(exported), str(photos / "a.png"), "--target", "tflite", "--quiet"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith(f"{photos / 'a.png'}: ")
    assert line.count("%") == 5


def test_photos_that_are_stored_turned_are_named(
    exported: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photos / "a.png") as image:
        image.save(tmp_path / "turned.jpg", exif=exif)
        image.save(tmp_path / "upright.jpg")
    command = ["predict", str(exported), str(tmp_path / "upright.jpg"), "--target", "tflite"]
    assert main(command) == 0
    assert "stored turned" not in capfd.readouterr().err
    assert main([*command, str(tmp_path / "turned.jpg"), str(photos / "missing.png")]) == 11
    said = " ".join(capfd.readouterr().err.split())
    assert f"{tmp_path / 'turned.jpg'}: stored turned (EXIF orientation) and asked as stored" in said


@pytest.mark.parametrize(
    ("photo", "more", "code", "said"),
    [
        ("missing.png", (), 11, "does not exist"),
        ("text.png", (), 11, "not an image"),
        ("a.png", ("--top", "0"), 2, "--top 0"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    tflite: Path,
    photos: Path,
    photo: str,
    more: tuple[str, ...],
    code: int,
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (photos / "text.png").write_text("no image")
    try:
        assert main(["predict", str(tflite), str(photos / photo), *more, "--quiet"]) == code
    finally:
        (photos / "text.png").unlink()
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("flags", [("--json",), ()])
def test_photos_that_cannot_be_read_cost_no_other_its_answer(
    tflite: Path, photos: Path, tmp_path: Path, flags: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, empty = tmp_path / "mixed", tmp_path / "empty"
    shutil.copytree(photos, folder)
    empty.mkdir()
    (folder / "aa.png").write_text("no image")
    (folder / "c.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    asked = [str(each) for each in (tmp_path / "missing.png", folder, empty, photos / "a.png")]
    assert main(["predict", str(tflite), *asked, "--quiet", *flags]) == 11
    out, err = capfd.readouterr()
    unread = [tmp_path / "missing.png", empty, folder / "aa.png", folder / "c.jpg"]
    lines = err.splitlines()
    assert len(lines) == len(unread)
    for line, each in zip(lines, unread, strict=True):
        assert line.startswith(f"rexnet-export predict: {each} ")
    if flags:
        found = json.loads(out)
        assert [each["photo"] for each in found["unread"]] == list(map(str, unread))
        answered = [each["photo"] for each in found["predictions"]]
    else:
        answered = [line.partition(": ")[0] for line in out.splitlines()]
    assert answered == [str(folder / "a.png"), str(folder / "b.jpg"), str(photos / "a.png")]


def test_a_file_that_its_manifest_does_not_know_is_refused(
    exported: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "out"))
    file = next(folder.glob("*.tflite"))
    file.write_bytes(file.read_bytes() + b"more")
    assert main(["predict", str(file), str(photos / "a.png"), "--quiet"]) == 12
    assert "not what manifest.json says" in capfd.readouterr().err
