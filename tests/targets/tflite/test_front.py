"""The constant channel of an INT8 file: LiteRT gives what PADV2 gave, and readers see the network of the table."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.tflite import stamp
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph
from rexnet_export.targets.tflite.front import eight_at_once, fits
from rexnet_export.targets.tflite.inspect import count_arithmetic, stored_parameters
from rexnet_export.targets.tflite.target import Tflite

type Images = NDArray[np.uint8]

TFLITE = Tflite()
PIXEL = QuantParams(scale=(1 / 256,), zero_point=(-128,))


def kinds(graph: Graph) -> Counter[str]:
    return Counter(graph.kind(operator) for operator in graph.operators)


def test_the_logits_are_those_behind_padv2_digit_for_digit(
    plain_sources: Mapping[Precision, Source],
    artifact_of: ArtifactOf,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = artifact_of("tflite", "int8", "plain")  # other tests get the same: it is made before anything is changed
    monkeypatch.setattr(stamp, "fits", lambda *_: False)
    padded = TFLITE.convert(plain_sources["int8"], tmp_path, "padded")
    assert (kinds(read_graph(padded.file.path))["PADV2"], kinds(read_graph(found.file.path))["PADV2"]) == (1, 0)
    every = np.concatenate([images[:4], [np.zeros_like(images[0])], [np.full_like(images[0], 255)]])
    np.testing.assert_array_equal(TFLITE.open(found).run(every), TFLITE.open(padded).run(every))
    assert TFLITE.inspect(found).coverage == TFLITE.inspect(padded).coverage
    assert TFLITE.inspect(found).qparams == TFLITE.inspect(padded).qparams


def first_layer(graph: Graph, width: int, channels: int) -> bytes:
    """A file that does nothing but append the channel to INT8 pixels [1, 8, W, C]."""
    pixels, core = (
        graph.add_tensor(name, "INT8", (1, 8, width, n)) for name, n in (("in", channels), ("out", channels + 1))
    )
    for index in (pixels, core):
        graph.quantize(index, PIXEL, "INT8")
    graph.operators[:] = eight_at_once(graph, pixels, core)
    graph.set_signature({"in": pixels}, {"out": core})
    graph.set_versions(stamp.VERSIONS)
    return graph.written()


@pytest.mark.parametrize(("width", "channels"), [(8, 3), (24, 3), (16, 1), (16, 4)])
@pytest.mark.parametrize("count", [1, 3])
def test_every_pixel_is_copied(width: int, channels: int, count: int, artifact_of: ArtifactOf) -> None:
    content = first_layer(read_graph(artifact_of("tflite", "int8", "plain").file.path), width, channels)
    interpreter = Interpreter(model_content=content, num_threads=1)
    (image,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(image["index"], (count, 8, width, channels))
    interpreter.allocate_tensors()
    pixels = np.random.default_rng(0).integers(-128, 128, (count, 8, width, channels), dtype=np.int8)
    pixels[0, 0], pixels[0, 1] = -128, 127
    interpreter.set_tensor(image["index"], pixels)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(found[..., :channels], pixels)
    assert set(found[..., channels].flat) == {127}


@pytest.mark.parametrize(("width", "channels", "wanted"), [(16, 4, True), (12, 3, False), (16, 5, False)])
def test_wide_images_and_odd_widths_keep_padv2(
    width: int,
    channels: int,
    wanted: bool,  # noqa: FBT001 - a parameter of the table above
    artifact_of: ArtifactOf,
) -> None:
    graph = read_graph(artifact_of("tflite", "int8", "plain").file.path)
    assert fits(graph, graph.add_tensor("pixels", "INT8", (1, 8, width, channels))) is wanted


def swap_last(values: NDArray[np.generic]) -> None:
    values[2:4] = values[[3, 2]].copy()


def set_at(place: tuple[int, ...], value: int) -> Callable[[NDArray[np.generic]], None]:
    return lambda values: values.__setitem__(place, value)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("weight", set_at((0, 0, 0, 1), 1)),
        ("weight", set_at((3, 0, 0, 2), 1)),
        ("weight", set_at((30, 0, 0, 23), 2)),
        ("weight", swap_last),
        ("bias", set_at((0,), 1)),
        ("bias", set_at((3,), 254)),
    ],
)
def test_a_file_that_changes_pixels_is_refused(
    part: str, change: Callable[[NDArray[np.generic]], None], artifact_of: ArtifactOf
) -> None:
    graph = read_graph(artifact_of("tflite", "int8", "plain").file.path)
    (index,) = (index for index in graph.indices() if graph.name(index) == f"input.appending.{part}")
    values = graph.values(index).copy()
    change(values)
    assert not np.array_equal(values, graph.values(index))
    graph.set_values(index, values)
    for reader in (count_arithmetic, stored_parameters):
        with pytest.raises(ConversionError, match="the file changes pixels"):
            reader(graph)
