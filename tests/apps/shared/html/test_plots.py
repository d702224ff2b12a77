from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from report_samples import LAYERS, SEARCHED

from rexnet_export.apps.shared.html.plots import Trade, latency_plot, layer_plot, spread_plot, trade_plot

TRADES = [
    Trade(name=f"trial {number}", cost=float(number), gain=0.9, least=0.8, on_front=number == 1)
    for number in range(1, 8)
]


def drawn() -> dict[str, str]:
    return {
        "layers": layer_plot({"tflite": LAYERS, "<ort> $\\x$": LAYERS}),
        "spreads": spread_plot(SEARCHED.spreads),
        "latency": latency_plot({"tflite": (1.0, 2.0, 1.5), "ort": (3.0,)}),
        "trade": trade_plot(TRADES, "ms", "a <trade>"),
    }


@pytest.mark.parametrize("name", ["layers", "spreads", "latency", "trade"])
def test_a_picture_is_xml_in_the_pages_own_colour(name: str) -> None:
    picture = drawn()[name]
    (root,) = ElementTree.fromstring(picture)  # noqa: S314 - our own
    assert root.tag == "svg"
    assert root.get("aria-label")
    assert "currentColor" in picture
    assert not re.search(r"#010203|#000000|#ffffff|black|white", picture)


def test_pictures_on_one_page_share_no_ids() -> None:
    ids = [set(re.findall(r'\bid="([^"]*)"', picture)) for picture in drawn().values()]
    assert all(ids)
    assert sum(map(len, ids)) == len(set.union(*ids))
    for picture, own in zip(drawn().values(), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', picture)) <= own


def test_the_same_figures_give_the_same_bytes() -> None:
    assert drawn() == drawn()


def test_names_and_axes_are_text() -> None:
    texts = {name: " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture)) for name, picture in drawn().items()}
    assert "&lt;ort&gt; $\\x$" in texts["layers"]
    assert "SQNR, dB" in texts["layers"]
    assert "stem.silu" in texts["spreads"]
    assert "tflite" in texts["latency"]
    assert all(trade.name in texts["trade"] for trade in TRADES)


def test_one_slow_run_does_not_squash_the_others() -> None:
    usual = tuple(1 + run / 100 for run in range(49))
    squashed, plain = latency_plot({"a": (*usual, 500.0)}), latency_plot({"a": (*usual, 1.5)})
    assert "ms; 1 slower run drawn at the right edge" in squashed
    assert "slower" not in plain
    assert "400" not in re.findall(r"<text[^>]*>([^<]*)</text>", squashed)


def test_every_run_is_a_point() -> None:
    few, more = latency_plot({"a": (1.0, 2.0)}), latency_plot({"a": (1.0, 2.0, 3.0, 4.0)})
    assert more.count("<use") - few.count("<use") == 2


def test_a_tensor_without_noise_is_no_point() -> None:
    line = layer_plot({"tflite": LAYERS[2:]})
    assert "tflite" in line


def test_markers_stand_off_the_right_edge_where_costs_are_close() -> None:
    close = [Trade(name=str(n), cost=100 + n / 100, gain=0.9, least=0.8, on_front=False) for n in range(3)]
    picture = trade_plot(close, "ms", "a trade")
    markers = [float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)" y="[\d.]+" style="fill-opacity: 0', picture)]
    axis = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', picture)  # what is drawn is cut to it
    assert axis is not None
    left, width = map(float, axis.groups())
    assert markers
    assert max(markers) + 3 < left + width, "half of a marker"
