"""The bundled images are what `assets/README.md` says they are."""

import gzip
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from rexnet_export.assets.make_sample import LABELS, make_sample
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.data.idx import open_idx
from rexnet_export.pipeline.data.sources import bundled

ASSETS = Path(__file__).parents[2] / "assets"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")


def test_digests_cover_every_data_file_and_hold() -> None:
    lines = [line.split() for line in (ASSETS / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    present = {path.name for pattern in ("*.gz", "*.txt", "*.safetensors") for path in ASSETS.glob(pattern)}
    assert present == set(sums)
    for name, digest in sums.items():
        assert file_sha256(ASSETS / name) == digest, name


def test_readme_names_the_digests_of_the_unpacked_values() -> None:
    readme = (ASSETS / "README.md").read_text()
    for path in ASSETS.glob("*.gz"):
        assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() in readme, path.name


def test_sample_stays_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.glob("*.gz")) < 5_000_000


def test_evaluation_is_the_whole_balanced_test_set() -> None:
    evaluation = bundled("evaluation")
    assert len(evaluation) == 10_000
    assert evaluation.labels is not None
    assert Counter(evaluation.labels) == dict.fromkeys(range(10), 1000)
    assert evaluation.class_names == LABELS
    assert evaluation.load(0).size == (28, 28)


def test_calibration_is_stratified_and_listed() -> None:
    calibration = bundled("calibration")
    indices = [int(line) for line in (ASSETS / "calibration-indices.txt").read_text().split()]
    assert len(calibration) == len(set(indices)) == 1024
    assert indices == sorted(indices)
    assert calibration.labels is not None
    assert set(Counter(calibration.labels).values()) == {102, 103}


def test_no_calibration_image_is_an_evaluation_image() -> None:
    evaluation, calibration = bundled("evaluation"), bundled("calibration")
    seen = {evaluation.content(index) for index in range(len(evaluation))}
    assert not [index for index in range(len(calibration)) if calibration.content(index) in seen]


@needs_debian
def test_calibration_images_are_those_of_the_listed_indices() -> None:
    indices = [int(line) for line in (ASSETS / "calibration-indices.txt").read_text().split()]
    training = open_idx(DEBIAN / "train-images-idx3-ubyte.gz", labelled=True)
    calibration = bundled("calibration")
    assert training.labels is not None
    assert [training.content(index) for index in indices] == [calibration.content(i) for i in range(len(calibration))]
    assert tuple(training.labels[index] for index in indices) == calibration.labels


@needs_debian
def test_the_script_makes_the_same_sample_again(tmp_path: Path) -> None:
    make_sample(DEBIAN, tmp_path)
    for path in tmp_path.iterdir():
        if path.suffix == ".gz":
            assert gzip.decompress(path.read_bytes()) == gzip.decompress((ASSETS / path.name).read_bytes()), path.name
        elif path.suffix == ".txt":
            assert path.read_bytes() == (ASSETS / path.name).read_bytes(), path.name
