"""The network block by block: every tensor is named, with its range, scale and noise in each file."""

import re

import pytest
from report_samples import LAYERS, made, report

from rexnet_export.apps.export.report.network import block_of, network_section

TABLE = report(ort=made("a.ort")).table


@pytest.mark.parametrize(
    ("tensor", "block"),
    [
        ("features.3.expand.silu", "features.3"),
        ("features.12", "features.12"),
        ("penultimate.g0", "penultimate"),
        ("image", "image"),
    ],
)
def test_a_tensor_stands_in_its_block(tensor: str, block: str) -> None:
    assert block_of(tensor) == block


def test_every_tensor_has_its_name_range_scale_and_noise() -> None:
    page = network_section({"tflite": LAYERS, "ort": LAYERS[:1]}, TABLE)
    assert re.findall(r"<summary>(.*?)<svg", page) == [
        "stem: 2 tensors, lowest 30.0 dB (stem.silu)",
        "image: 1 tensor, without noise",
    ]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in page.split("<tr>")[1:]]
    assert [row for row in cells if row] == [
        ["stem", "-25 to 38.75", "0.25", "35.0", "35.0"],
        ["stem.silu", "float", "-", "30.0", "-"],
        ["image", "-", "-", "-", "-"],
    ]


def test_a_pointer_on_a_bar_shows_the_same_and_the_noisier_is_lower() -> None:
    page = network_section({"tflite": LAYERS, "ort": LAYERS[:1]}, TABLE)
    assert re.findall(r"<title>(.*?)</title>", page) == [
        "stem; -25 to 38.75; scale 0.25; tflite 35.0 dB, ort 35.0 dB",
        "stem.silu; float; tflite 30.0 dB",
        "image",
    ]
    assert re.findall(r'height="([\d.]+)%"', page) == ["58.3", "50.0", "100.0"]


def test_without_a_table_there_are_no_ranges_and_without_noise_no_section() -> None:
    assert "<td>stem</td><td>-</td><td>-</td><td>35.0</td>" in network_section({"ort": LAYERS}, None)
    assert network_section({}, TABLE) == ""
