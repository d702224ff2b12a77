"""Class labels in the forms people have them, and lists of labels for images in one folder."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data.sources import match_labels, open_source, remarks
from rexnet_export.pipeline.labels.label_files import read_labels, renumbered


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.txt", "cat\nsea eel\nÄrmel\n"),
        ("list.json", '["cat", "sea eel", "Ärmel"]'),
        ("class_to_idx.json", '{"Ärmel": 2, "cat": 0, "sea eel": 1}'),
        ("id2label.json", '{"0": "cat", "1": "sea eel", "2": "Ärmel"}'),
        ("tenth.json", json.dumps({str(9 - index): name for index, name in enumerate("jihgfedcba")})),
        ("one.csv", "label\ncat\nsea eel\nÄrmel\n"),
        ("named.csv", "index,name\n2,Ärmel\n0,cat\n1,sea eel\n"),
        ("bare.csv", "cat,0\nÄrmel,2\nsea eel,1\n"),
        ("excel.csv", "name;index\nÄrmel;2\ncat;0\nsea eel;1\n"),
        ("tabs.tsv", "0\tcat\n1\tsea eel\n2\tÄrmel\n"),
    ],
)
def test_labels_in_every_form(tmp_path: Path, name: str, text: str) -> None:
    expected = tuple("jihgfedcba"[::-1]) if name == "tenth.json" else ("cat", "sea eel", "Ärmel")
    assert read_labels(written(tmp_path / name, text)) == expected


def test_synsets_beside_names_match_folders_of_either(tmp_path: Path) -> None:
    keras = written(tmp_path / "k.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}')
    mapping = written(tmp_path / "m.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n")
    for path in (keras, mapping):
        for folder in ("n01443537", "n01440764"):
            (tmp_path / path.stem / folder).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / path.stem / folder / "a.png")
        source = open_source(tmp_path / path.stem, labelled=True)
        assert match_labels(source, read_labels(path)).labels == (0, 1)
    (tmp_path / "m" / "n01440764").rename(tmp_path / "m" / "n02000000")
    with pytest.raises(DataError, match=r"'n02000000' not among .* 2 synsets in order, one a line"):
        match_labels(open_source(tmp_path / "m", labelled=True), read_labels(mapping))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[" * 2000, "not valid JSON"),
        ("a.txt", "[" * 2000, "not valid JSON"),
        ("a.json", '{"cat": ' + "9" * 5000 + "}", "not valid JSON"),
        ("a.json", '["cat", ["a", 3]]', "list of strings"),
        ("a.json", '{"cat": true}', "list of strings"),
        ("a.json", '{"cat": 1, "dog": 2}', "from 1; a network counts from 0"),
        ("a.json", '{"cat": 0, "dog": 2}', "from 0 to 1, each once"),
        ("a.json", '{"0": "cat", "00": "dog"}', "from 0 to 1, each once"),
        ("a.json", "{}", "are empty"),
        ("a.csv", "", "are empty"),
        ("a.csv", "1,2\n0,1\n", "several columns hold numbers"),
        ("a.csv", "tench, Tinca tinca\neel\n", "row 2 has 1 columns"),
        ("a.csv", "index,name\n0,\n", "label 1 is empty"),
    ],
)
def test_labels_that_cannot_be_are_refused_in_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_labels(written(tmp_path / name, text))
    assert "\n" not in str(caught.value)


@given(text=st.text(max_size=60), name=st.sampled_from(["a.txt", "a.json", "a.csv", "a.tsv"]))
def test_any_text_gives_labels_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, text: str, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_text(text, encoding="utf-8")
    with suppress(DataError):
        assert all(label.strip() == label and label for label in read_labels(path))


# Labels of images in one folder


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "more/c.jpg", "d.jpg"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\na.jpg,cat\nb.png,dog\nc.jpg,cat\nd.jpg,eel\n",
        "a.jpg,cat\nb.png,dog\nmore/c.jpg,cat\nd.jpg,eel\n",
        "label;image\neel;d\ncat;a\ncat;c\ndog;b\n",
        "id\tsource\tlabel\na\tx\tcat\nb\tx\tdog\nc\ty\tcat\nd\ty\teel\n",
        "a.jpg cat\nb.png dog\nc.jpg cat\nd.jpg eel\n",
        "cat\ndog\neel\ncat\n",
        "label\ncat\ndog\neel\ncat\n",
    ],
)
def test_a_list_gives_the_labels_of_a_flat_folder(flat: Path, tmp_path: Path, text: str) -> None:
    source = open_source(flat, labelled=True, image_labels=written(tmp_path / "list.csv", text))
    assert source.class_names == ("cat", "dog", "eel")
    assert source.labels is not None
    assert [source.class_names[label] for label in source.labels] == ["cat", "dog", "eel", "cat"]
    assert source.ids == ("a.jpg", "b.png", "d.jpg", "more/c.jpg")


def test_what_the_list_and_the_folder_do_not_share_is_said(flat: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "list.csv", "filename,label\na.jpg,cat\nb.png,dog\nz.jpg,dog\n")
    source = open_source(flat, labelled=True, image_labels=path)
    assert source.ids == ("a.jpg", "b.png")
    assert remarks(source) == (
        "list.csv: 1 of its images are not in the folder: 'z.jpg'",
        "list.csv: 2 images of the folder have no label and are left out: 'd.jpg', 'more/c.jpg'",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x.jpg,cat\ny.jpg,dog\n", "no column names one of the 4 images"),
        ("cat\ndog\n", "2 lines for 4 images"),
        ("a.jpg,cat,1\nb.png,dog,2\n", "name the one with the classes `label`"),
        ("a.jpg,cat\na.jpg,dog\n", "names an image twice"),
        ("a.jpg,cat\nb.png\n", "row 2 has 1 columns"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(flat: Path, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_source(flat, labelled=True, image_labels=written(tmp_path / "list.csv", text))


def test_imagenets_validation_folder_with_its_ground_truth(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (8, 8)).save(folder / f"ILSVRC2012_val_{number:08}.JPEG")
    truth = written(tmp_path / "ILSVRC2012_validation_ground_truth.txt", "2\n1\n2\n")
    with pytest.raises(DataError, match=r"ILSVRC2012's own numbers, whose order is no network's; put .* meta\.mat"):
        open_source(folder, labelled=True, image_labels=truth)
    kind = [("ILSVRC2012_ID", "f8"), ("WNID", "O")]
    savemat(tmp_path / "meta.mat", {"synsets": np.array([(1, "n02000000"), (2, "n01440764"), (1001, "n09")], kind)})
    source = open_source(folder, labelled=True, image_labels=truth)
    assert match_labels(source, ["tench", "wolf"]).labels == (0, 1, 0)
    kaggle = "ImageId,PredictionString\n" + "".join(
        f"ILSVRC2012_val_{number:08},{synset} 1 2 30 40 \n" for number, synset in enumerate(["n02", "n01", "n01"], 1)
    ).replace("n02", "n02000000").replace("n01", "n01440764")
    listed = open_source(folder, labelled=True, image_labels=written(tmp_path / "LOC_val_solution.csv", kaggle))
    assert match_labels(listed, ["tench", "wolf"]).labels == (1, 0, 0)


@pytest.mark.parametrize(
    "text", ["2 bird\n0 cat\n1 dog\n", "0: cat\n1: dog\n2: bird\n", "dog,1\ncat,0\nbird,2", "1\tdog\n2\tbird\n0\tcat"]
)
def test_lines_that_number_their_classes_go_by_the_numbers(tmp_path: Path, text: str) -> None:
    assert read_labels(written(tmp_path / "labels.txt", text)) == ("cat", "dog", "bird")


@pytest.mark.parametrize(
    "lines", [("5 euro", "0 euro", "1 euro"), ("room 1", "room 0"), ("3 cats", "1 dog"), ("1 cat", "2 dogs")]
)
def test_numbers_that_are_a_part_of_names_stay(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert read_labels(written(tmp_path / "labels.txt", "\n".join(lines))) == lines


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("labels.txt", "2 bird\n1 dog\n", "number the classes from 1"),
        ("labels.json", '["cat", "\\ud800"]', r"label 2 \('.ud800'\) is no Unicode text"),
        ("labels.csv", "index,name\n0.0,cat\n1.0,dog\n", "column 'index' holds '0.0'; number the classes 0, 1"),
        ("labels.csv", "index,name\n0,cat\n,dog\n", "column 'index' holds ''"),
        ("labels.csv", "index,name\n-1,none\n0,cat\n", "column 'index' holds '-1'"),
    ],
)
def test_numbers_that_are_no_classes_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_labels(written(tmp_path / name, text))


def test_an_image_with_an_empty_label_has_none(flat: Path, tmp_path: Path) -> None:
    source = open_source(
        flat, labelled=True, image_labels=written(tmp_path / "list.csv", "a.jpg,cat\nb.png,\nd.jpg,dog\n")
    )
    assert (source.ids, source.class_names) == (("a.jpg", "d.jpg"), ("cat", "dog"))
    assert "list.csv: 2 images of the folder have no label and are left out: 'b.png', 'more/c.jpg'" in remarks(source)


def test_labels_by_the_order_of_names_that_sort_in_two_ways_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in (1, 2, 10):
        (tmp_path / "images" / f"{number}.png").touch()
    path = written(tmp_path / "list.txt", "cat\ndog\neel\n")
    with pytest.raises(
        DataError, match=r"sort in two ways \('1.png', '10.png', '2.png'; or '1.png', '2.png', '10.png'\)"
    ):
        open_source(tmp_path / "images", labelled=True, image_labels=path)
    source = open_source(tmp_path / "images", labelled=True, image_labels=written(path, "cat\ndog\ndog\n"))
    assert source.labels == (0, 1, 1)


def test_a_list_that_contradicts_the_folders_names_is_believed_and_said(flat: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "list.csv", "a.jpg,more\nb.png,more\nd.jpg,dog\nmore/c.jpg,dog\n")
    source = open_source(flat, labelled=True, image_labels=path)
    assert remarks(source) == (
        "list.csv gives 1 images another class than their folder's name: 'more/c.jpg' is 'dog' there",
    )


SORTED = "\n".join(sorted(f"{number} {name}" for number, name in enumerate("abcdefghijkl")))


def test_lines_that_a_loader_sorted_are_refused_as_their_numbers_say_another_order(tmp_path: Path) -> None:
    path = written(tmp_path / "labels.txt", SORTED)
    with pytest.raises(
        DataError, match=r"two ways \('0 a', '1 b', '10 k', .*; or '0 a', '1 b', '2 c', .*JSON list"
    ) as e:
        read_labels(path)
    assert "\n" not in str(e.value)
    names = SORTED.splitlines()
    assert read_labels(written(tmp_path / "labels.json", json.dumps(names))) == tuple(names)  # the cures work
    names.sort(key=lambda name: int(name.split()[0]))
    assert read_labels(written(path, "\n".join(names))) == tuple("abcdefghijkl")
    assert renumbered(path) is None


def test_lines_that_are_put_in_the_order_of_their_numbers_are_said(tmp_path: Path) -> None:
    path = written(tmp_path / "labels.txt", "2 bird\n0 cat\n1 dog\n")
    line = renumbered(path)
    assert line is not None
    assert "in labels.txt, whose lines stand in another order: class 0 is 'cat', and the first line is '2 bird'" in line
    (tmp_path / "images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 3, 1, 1) + bytes(3))
    (tmp_path / "labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes((0, 1, 2)))
    assert remarks(open_source(tmp_path, labelled=True)) == (line,)


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", "cat\ndog\n"), ("a.json", '{"dog": 1, "cat": 0}'), ("a.csv", "1,dog\n0,cat\n")]
)
def test_no_line_where_no_lines_were_put_in_order(tmp_path: Path, name: str, text: str) -> None:
    assert renumbered(written(tmp_path / name, text)) is None
