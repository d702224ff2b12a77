"""Image sources: what they list, in which order they decode, and what they say about bad files."""

import gzip
import os
import shutil
import struct
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.idx import IdxImages, parse_idx
from rexnet_export.pipeline.data.preprocess import resize_and_crop
from rexnet_export.pipeline.data.sources import (
    batches,
    bundled,
    check_images,
    choose,
    images_sha256,
    match_labels,
    open_source,
    remarks,
)
from rexnet_export.pipeline.labels.label_files import read_labels

SMALL = Preprocess(size=32, crop_ratio=1.0)


def save(path: Path, seed: int = 0, size: tuple[int, int] = (40, 36)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def idx(values: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Three classes with 6, 4 and 2 images of different formats."""
    for number, (name, count) in enumerate([("cat", 6), ("dog", 4), ("eel", 2)]):
        for index in range(count):
            save(tmp_path / name / f"{index}.{('jpg', 'png', 'JPEG')[index % 3]}", seed=10 * number + index)
    return tmp_path


# What a folder lists


def test_classes_are_the_sorted_sub_folders(classes: Path) -> None:
    source = open_source(classes, labelled=True)
    assert source.class_names == ("cat", "dog", "eel")
    assert source.labels is not None
    assert Counter(source.labels) == {0: 6, 1: 4, 2: 2}
    assert source.ids[0] == "cat/0.jpg"
    assert list(source.ids) == sorted(source.ids)
    assert source.load(0).mode == "RGB"


def test_unlabelled_folder_is_searched_whole(classes: Path) -> None:
    source = open_source(classes, labelled=False)
    assert len(source) == 12
    assert source.labels is None
    assert source.class_names is None


def test_hidden_files_and_desktop_litter_are_ignored(classes: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "._0.jpg"):
        (classes / "cat" / name).touch()
    (classes / ".cache").mkdir()
    (classes / "README.txt").write_text("notes beside the class folders are fine")
    assert len(open_source(classes, labelled=True)) == 12


def test_links_are_followed_but_never_in_circles(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(elsewhere / "0.png")
    (classes / "fox").symlink_to(elsewhere)
    (classes / "cat" / "back").symlink_to(classes)
    source = open_source(classes, labelled=True)
    assert "fox/0.png" in source.ids
    assert len(source.ids) < 100


def test_a_link_to_itself_is_named_and_hides_nothing(classes: Path) -> None:
    (classes / "cat" / "loop.png").symlink_to("loop.png")
    (classes / "self").symlink_to("self")
    source = open_source(classes, labelled=True)
    assert "self" not in source.class_names
    with pytest.raises(DataError, match=r"cat/loop.png \(Too many levels of symbolic links\)"):
        check_images(source, range(len(source)))


def test_a_class_whose_name_is_no_unicode_is_refused(classes: Path) -> None:
    (classes / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(
        DataError, match=r"the name of class folder 'caf.' is no UTF-8, as every file's labels are; rename"
    ):
        open_source(classes, labelled=True)


def test_names_that_are_no_unicode_have_a_digest(classes: Path) -> None:
    path = classes / "cat" / os.fsdecode(b"\xff\xfe.png")
    save(path)
    source = open_source(classes, labelled=True)
    place = source.ids.index(f"cat/{path.name}")
    assert images_sha256(source, [place]) != images_sha256(source, [0])


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees to show upright
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert open_source(tmp_path, labelled=False).load(0).size == (40, 20)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_every_eight_bit_mode_becomes_rgb_as_in_timm(tmp_path: Path, mode: str) -> None:
    image = Image.open(save(tmp_path / "rgb.png")).convert("RGBA" if mode == "RGBA" else "L").convert(mode)
    path = tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(path)
    (tmp_path / "rgb.png").unlink()
    loaded = open_source(tmp_path, labelled=False).load(0)
    assert np.array_equal(np.asarray(loaded), np.asarray(Image.open(path).convert("RGB")))


# What a bad folder says


def broken_folders(root: Path) -> None:
    for name in ("no-images", "no-classes", "loose", "empty-class", "shards", "parquet"):
        (root / name).mkdir()
    save(root / "no-classes" / "a.png")
    for name in ("loose", "empty-class"):
        save(root / name / "cat" / "a.png")
    save(root / "loose" / "stray.png")
    (root / "empty-class" / "dog").mkdir()
    for part in ("train", "test"):
        save(root / "parts" / part / "cat" / "a.png")
    save(root / "wrapped" / "photos" / "cat" / "a.png")
    (root / "shards" / "00.tar").touch()
    (root / "parquet" / "train.parquet").touch()
    shutil.make_archive(str(root / "photos"), "tar", root, "loose")
    shutil.make_archive(str(root / "photos"), "zip", root, "loose")
    shutil.make_archive(str(root / "photos"), "gztar", root, "loose")
    (root / "photos.csv").write_text("filename,label\n")
    (root / "photos.parquet").write_bytes(b"PAR1")
    (root / "file.txt").write_text("neither folder nor IDX")


@pytest.mark.parametrize(
    ("name", "labelled", "message"),
    [
        ("nowhere", True, "nowhere does not exist"),
        ("file.txt", True, "is no folder; name a folder of images, shards, tables or an idx3-ubyte file"),
        ("no-images", False, "holds no images"),
        ("no-images", True, "no sub-folders; labelled images need one sub-folder per class"),
        ("no-classes", True, "no sub-folders; labelled images need one sub-folder per class"),
        ("loose", True, "images 'stray.png' lie outside the class sub-folders"),
        ("no-classes", True, "or give --eval-labels FILE"),
        ("empty-class", True, "class folder 'dog' holds no images"),
        ("parts", True, r"holds 'test', 'train', which are parts of a data set, not classes; name one .*parts/test"),
        ("wrapped", True, r"holds one folder of folders; name that: .*wrapped/photos"),
        ("shards", False, r"00.tar is no whole tar file"),
        ("parquet", True, "is damaged"),
        ("photos.tar", True, r"none of its 2 images has a \.cls; .* unpack another tar"),
        ("photos.zip", True, "is a zip archive: unpack it"),
        ("photos.tar.gz", True, "is gzip: unpack it"),
        ("photos.csv", True, "is a list; give the images' folder as --eval-data and the list as --eval-labels"),
        ("photos.parquet", False, "is damaged \\(Parquet file size"),
    ],
)
def test_a_bad_folder_is_refused_with_one_line(tmp_path: Path, name: str, labelled: bool, message: str) -> None:  # noqa: FBT001
    broken_folders(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path / name, labelled=labelled)
    assert "\n" not in str(caught.value)


def test_other_files_are_counted_or_refused(classes: Path) -> None:
    for index in range(7):
        (classes / "cat" / f"notes{index}.txt").write_text("not an image")
    source = open_source(classes, labelled=True)
    assert len(source) == 12
    (line,) = remarks(match_labels(source, ["cat", "dog", "eel"]))
    assert line.startswith(f"{classes}: 7 files are no images and are left out: 'cat/notes0.txt', ")
    assert line.endswith("'cat/notes4.txt' and 2 more")
    with pytest.raises(DataError, match=r"not images: 'cat/notes0.txt', .* and 2 more; remove them, or leave --strict"):
        open_source(classes, labelled=False, strict=True)


def test_more_suffixes_are_images(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.jpe", "c.AVIF"):
        save(tmp_path / "x.jpg" if name != "c.AVIF" else tmp_path / "x.avif").rename(tmp_path / name)
    source = open_source(tmp_path, labelled=False)
    assert source.ids == ("a.jfif", "b.jpe", "c.AVIF")
    assert [source.load(index).size for index in range(3)] == [(40, 36)] * 3


def spoil(folder: Path) -> None:
    """Files whose content shows what they are instead of images, and images nobody can use."""
    (folder / "b0.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (folder / "b1.jpg").write_bytes(b"\n<!DOCTYPE html><title>404</title>")
    (folder / "b2.jpg").write_bytes(gzip.compress(b"photo"))
    (folder / "b3.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (folder / "b4.jpg").touch()
    (folder / "b5.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "b6.png")
    (folder / "b7.png").write_bytes(png_header(13_000, 13_000))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and has none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">II", zlib.crc32(body), 9) + b"IDAT"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_unusable_image_is_named_at_once_with_its_cure(tmp_path: Path) -> None:
    for index in range(20):
        save(tmp_path / f"a{index}.jpg")
    spoil(tmp_path)
    source = open_source(tmp_path, labelled=False)
    with pytest.raises(DataError) as caught:
        check_images(source, range(28), 7)
    message = str(caught.value)
    assert "8 of 28 images unusable" in message
    for cure in (
        "b0.jpg (a Git LFS pointer: run `git lfs pull`)",
        "b1.jpg (a web page: fetch the file again)",
        "b2.jpg (gzip: unpack it",
        "b3.jpg (a damaged HEIC file)",
        "b4.jpg (an empty file)",
        "b5.png (No such file or directory)",
        "b6.png (no regular file)",
        "b7.png (13,000 x 13,000 pixels: more than 89,478,485)",
        "--max-bad-images N",
    ):
        assert cure in message
    found = check_images(source, range(28), 8)
    assert found.indices == tuple(range(20))
    assert found.remark is not None
    assert "8 of 28 images unusable and left out: b0.jpg" in found.remark


def test_nothing_usable_is_always_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(DataError, match="1 of 1 images unusable"):
        check_images(open_source(tmp_path, labelled=False), [0], 5)


def damage(folder: Path) -> None:
    """Four files that are not what their names say: text, half a JPEG, 16 bits, and PostScript."""
    (folder / "cat" / "1.png").write_text("plain text")
    whole = save(folder / "cat" / "0.jpg", size=(400, 300)).read_bytes()
    (folder / "cat" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(folder / "dog" / "1.png")
    (folder / "eel" / "0.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")


def test_unusable_images_are_named_together_while_decoding(classes: Path) -> None:
    damage(classes)
    source = open_source(classes, labelled=True)
    with pytest.raises(DataError) as caught:
        list(batches(source, SMALL, range(12), 4))
    message = str(caught.value)
    assert "4 of 12 images unusable" in message
    assert "cat/0.jpg (image file is truncated" in message
    assert "cat/1.png (not an image)" in message
    assert "dog/1.png (more than 8 bits per channel: scale it to 8 bits" in message
    assert "eel/0.jpg (not an image)" in message
    assert "\n" not in message


def test_the_check_before_work_finds_all_that_decoding_would(classes: Path) -> None:
    check_images(open_source(classes, labelled=True), range(12))
    damage(classes)
    with pytest.raises(DataError, match=r"4 of 12 images unusable: cat/0\.jpg \(image file is truncated") as caught:
        check_images(open_source(classes, labelled=True), range(12))
    assert "eel/0.jpg" in str(caught.value)


def test_only_chosen_images_are_decoded(classes: Path) -> None:
    damage(classes)
    source = open_source(classes, labelled=True)
    healthy = [index for index, name in enumerate(source.ids) if name.startswith("cat/") and name > "cat/2"]
    assert sum(len(images) for images in batches(source, SMALL, healthy, 2)) == len(healthy)


# Batches


def test_batches_keep_the_order_and_the_pixels(classes: Path) -> None:
    source = open_source(classes, labelled=True)
    indices = [7, 0, 11, 3, 3, 5, 1]
    result = list(batches(source, SMALL, indices, 3))
    assert [images.shape for images in result] == [(3, 32, 32, 3), (3, 32, 32, 3), (1, 32, 32, 3)]
    expected = np.stack([resize_and_crop(source.load(index), SMALL) for index in indices])
    assert np.array_equal(np.concatenate(result), expected)


def test_no_images_give_no_batches(classes: Path) -> None:
    assert list(batches(open_source(classes, labelled=True), SMALL, [], 4)) == []


@dataclass
class Counting:
    """A source of 1,000 images that counts how many were asked for."""

    name: str = "counting"
    ids: tuple[str, ...] = tuple(map(str, range(1000)))
    labels: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    loaded: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.ids)

    def content(self, index: int) -> bytes:
        return self.ids[index].encode()

    def probe(self, index: int) -> None:
        pass

    def load(self, index: int) -> Image.Image:
        with self.lock:
            self.loaded += 1
        return Image.new("RGB", (32, 32), (index % 256, 0, 0))


def test_decoding_stays_within_two_batches_of_the_reader() -> None:
    source = Counting()
    for number, _ in enumerate(batches(source, SMALL, range(1000), 8), 1):
        assert source.loaded <= 8 * (number + 2)


def test_a_reader_that_stops_early_stops_the_decoding() -> None:
    source = Counting()
    stream = batches(source, SMALL, range(1000), 8)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert source.loaded <= 24
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


# Choosing


def labelled(sizes: list[int]) -> IdxImages:
    labels = tuple(label for label, size in enumerate(sizes) for _ in range(size))
    return IdxImages(name="x", pixels=np.zeros((len(labels), 1, 1), np.uint8), labels=labels)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 100), st.integers(0, 2**32))
def test_choice_is_repeatable_distinct_and_in_proportion(sizes: list[int], count: int, seed: int) -> None:
    source = labelled(sizes)
    chosen = choose(source, count, seed)
    assert chosen == choose(source, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(source))
    assert choose(source, len(source), seed)[: len(chosen)] == chosen
    assert source.labels is not None
    drawn = Counter(source.labels[index] for index in chosen)
    for label, size in enumerate(sizes):
        assert abs(drawn[label] - len(chosen) * size / len(source)) <= len(sizes) / 2 + 1


def test_equal_classes_are_drawn_equally_and_seeds_differ() -> None:
    source = labelled([50] * 10)
    chosen = choose(source, 64, 1)
    assert source.labels is not None
    assert set(Counter(source.labels[index] for index in chosen).values()) <= {6, 7}
    assert chosen != choose(source, 64, 2)


def test_rare_classes_do_not_crowd_out_the_common_one() -> None:
    source = labelled([90] + [1] * 10)
    assert source.labels is not None
    assert [source.labels[index] for index in choose(source, 10, 0)].count(0) >= 9


def test_a_lone_image_comes_in_the_middle_of_the_others() -> None:
    source = labelled([1, 4])
    assert source.labels is not None
    assert [source.labels[index] for index in choose(source, 5, 0)] == [1, 1, 0, 1, 1]


def test_unlabelled_choice_spreads_over_the_whole_source() -> None:
    chosen = choose(Counting(), 100, 0)
    assert len(set(chosen)) == 100
    assert 350 < sum(chosen) / 100 < 650


# Digests


def test_digest_follows_content_choice_and_order(classes: Path) -> None:
    source = open_source(classes, labelled=True)
    first = images_sha256(source, [0, 1, 2])
    assert first == images_sha256(source, [0, 1, 2])
    assert first != images_sha256(source, [0, 2, 1])
    (classes / "cat").rename(classes / "bat")
    assert images_sha256(open_source(classes, labelled=True), [0, 1, 2]) != first
    (classes / "bat").rename(classes / "cat")
    save(classes / "cat" / "1.png", seed=99)
    assert first != images_sha256(source, [0, 1, 2])


def test_a_file_that_vanished_is_named(classes: Path) -> None:
    source = open_source(classes, labelled=True)
    (classes / "cat" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"cat/0.jpg \(No such file"):
        images_sha256(source, [0])


# IDX


def test_idx_is_read_plain_and_gzipped_and_shown_as_rgb(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "t-images-idx3-ubyte").write_bytes(idx(pixels))
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(idx(np.array([1, 0], np.uint8)))
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    source = open_source(tmp_path, labelled=True)
    assert source.labels == (1, 0)
    assert source.class_names == ("cat", "dog")
    assert np.array_equal(np.asarray(source.load(1)), np.repeat(pixels[1][..., None], 3, axis=2))
    assert open_source(tmp_path / "t-images-idx3-ubyte", labelled=False).labels is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\xff\xd8\xff\xe0 a photo", "not an IDX file"),
        (idx(np.zeros(4, np.uint8)), "not an IDX file of unsigned bytes and rank 3"),
        (idx(np.zeros((2, 3, 4), np.uint8))[:-1], r"promises 24 values .* holds 23"),
        (idx(np.zeros((2, 3, 4), np.uint8)) + b"x", r"promises 24 values .* holds 25"),
        (idx(np.zeros((0, 3, 4), np.uint8)), "promises 0 values"),
        (idx(np.zeros((2, 3, 4), np.uint8))[:9], "not an IDX file"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12 + b"few", "holds 3"),
        (b"\x1f\x8b\x08 damaged gzip", "is damaged"),
    ],
)
def test_damaged_idx_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(content, rank=3, name="x-images")


def test_damaged_gzip_is_refused() -> None:
    content = (Path(__file__).parents[3] / "assets" / "calibration-images.idx3-ubyte.gz").read_bytes()
    with pytest.raises(DataError, match="is damaged"):
        parse_idx(content[:-1000], rank=3, name="x-images")
    with pytest.raises(DataError, match="is damaged"):
        parse_idx(content[:1000] + bytes(1000) + content[2000:], rank=3, name="x-images")


def test_idx_labels_must_be_there_and_fit(tmp_path: Path) -> None:
    images = tmp_path / "t-images-idx3-ubyte"
    images.write_bytes(idx(np.zeros((2, 3, 4), np.uint8)))
    with pytest.raises(DataError, match="needs its label file t-labels-idx1-ubyte"):
        open_source(images, labelled=True)
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match="2 images but 3 labels"):
        open_source(images, labelled=True)
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(idx(np.array([0, 2], np.uint8)))
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"label 2 but labels\.txt names 2 classes"):
        open_source(images, labelled=True)
    (tmp_path / "u-images-idx3-ubyte").write_bytes(images.read_bytes())
    with pytest.raises(DataError, match="several IDX image files"):
        open_source(tmp_path, labelled=True)


# Labels


def test_folder_names_are_mapped_to_the_models_order(classes: Path) -> None:
    source = match_labels(open_source(classes, labelled=True), ["eel", "ant", "cat", "dog"])
    assert source.labels == (2,) * 6 + (3,) * 4 + (0,) * 2
    assert source.class_names == ("eel", "ant", "cat", "dog")
    assert source.load(0).size == (40, 36)


def test_spelling_that_folders_cannot_have_is_forgiven(tmp_path: Path) -> None:
    for name in ("T-shirt_top", "ankle boot"):
        save(tmp_path / name / "a.png")
    names = bundled("evaluation").class_names
    assert names is not None
    assert match_labels(open_source(tmp_path, labelled=True), names).labels == (0, 9)


def test_a_name_that_two_labels_share_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "crane" / "a.png")
    with pytest.raises(DataError, match="class 'crane' not among"):
        match_labels(open_source(tmp_path, labelled=True), ["crane", "heron", "crane"])


def test_a_strange_class_is_named_with_the_labels(classes: Path) -> None:
    with pytest.raises(DataError, match=r"class 'dog', 'eel' not among the model's 2 labels \('cat', 'ant'\)"):
        match_labels(open_source(classes, labelled=True), ["cat", "ant"])


def test_unrelated_names_are_never_matched_by_count(classes: Path) -> None:
    with pytest.raises(DataError, match="'cat', 'dog', 'eel' not among"):
        match_labels(open_source(classes, labelled=True), ["red", "green", "blue"])


def test_two_folders_of_one_label_are_refused(tmp_path: Path) -> None:
    for name in ("Ankle boot", "ankle_boot"):
        save(tmp_path / name / "a.png")
    with pytest.raises(DataError, match="mean the same label"):
        match_labels(open_source(tmp_path, labelled=True), ["Ankle boot", "Bag"])


def test_a_full_set_of_wordnet_ids_is_matched_in_sorted_order(tmp_path: Path) -> None:
    for name in ("n02000000", "n01440764", "n03000000"):
        save(tmp_path / name / "a.png")
    source = open_source(tmp_path, labelled=True)
    assert match_labels(source, ["tench", "wolf", "car"]).labels == (0, 1, 2)
    with pytest.raises(DataError, match="not among the model's 4 labels"):
        match_labels(source, ["tench", "wolf", "car", "cup"])


def test_numbered_folders_mean_their_number(tmp_path: Path) -> None:
    for name in ("0", "2", "10"):
        save(tmp_path / name / "a.png")
    source = open_source(tmp_path, labelled=True)
    assert match_labels(source, [f"class {letter}" for letter in "abcdefghijkl"]).labels == (0, 10, 2)


def test_labels_without_names_must_be_within_the_model(classes: Path) -> None:
    assert match_labels(labelled([1, 1, 1]), ["a", "b", "c", "d"]).labels == (0, 1, 2)
    with pytest.raises(DataError, match="label 2 but the model knows 2 classes"):
        match_labels(labelled([1, 1, 1]), ["a", "b"])
    with pytest.raises(DataError, match="has no labels"):
        match_labels(open_source(classes, labelled=False), ["a", "b"])


@pytest.mark.parametrize(
    "content", ["cat\nsea eel\nÄrmel\n", "\ufeffcat\r\n sea eel \r\nÄrmel", '["cat", "sea eel", "Ärmel"]']
)
def test_labels_are_read_from_lines_and_json(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content.encode())
    assert read_labels(path) == ("cat", "sea eel", "Ärmel")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "are empty"),
        (b"[]", "are empty"),
        (b"cat\n\ndog\n", "label 2 is empty"),
        (b"\xff\xfecat", "not UTF-8"),
        (b'["cat", ', "not valid JSON"),
        (b'["cat", 3]', "list of strings"),
        (b'{"a": "cat"}', "list of strings"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_labels(path)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "nowhere.txt")


def test_a_training_is_told_of_no_flag_it_lacks_and_of_no_folder_to_judge_by(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / "data" / name).mkdir(parents=True)
    save(tmp_path / "data" / "val" / "a.png")
    with pytest.raises(DataError, match=r"sub-folder per class$"):
        open_source(tmp_path / "data" / "val", labelled=True, role="training")
    with pytest.raises(DataError, match=r"such as \S+data/train$"):
        open_source(tmp_path / "data", labelled=True, role="training")
    with pytest.raises(DataError, match=r"such as \S+data/val$"):
        open_source(tmp_path / "data", labelled=True, role="evaluation")
    (tmp_path / "data" / "train").rmdir()
    with pytest.raises(DataError, match=r"name one of them$"):
        open_source(tmp_path / "data", labelled=True, role="training")
    (tmp_path / "list.csv").write_text("a.png,cat")
    with pytest.raises(DataError, match=r"images' folder, one sub-folder per class; name"):
        open_source(tmp_path / "list.csv", labelled=True, role="training")


def test_one_file_is_spoken_of_as_one(classes: Path) -> None:
    (classes / "cat" / "notes.txt").write_text("not an image")
    (line,) = remarks(open_source(classes, labelled=True))
    assert line == f"{classes}: 1 file is no image and is left out: 'cat/notes.txt'"
