from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from summaries import summary

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.calibration import observe as subject
from rexnet_export.quantization.calibration.observe import TensorStatistics, bins_of, merge, observe

BINS = 4096

TENSORS = ("stem", "features.3.pool", "logits")

signals = arrays.arrays(np.float32, (2, 50), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def same(one: TensorStatistics, other: TensorStatistics) -> bool:
    fields = TensorStatistics.__dataclass_fields__
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


@given(signals, signals, signals)
def test_merging_is_exact_whatever_the_order(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    one, two, three = summary(a), summary(b), summary(c)
    left = merge(merge(one, two), three)
    assert same(left, merge(three, merge(two, one)))
    assert same(left, summary(np.concatenate([a, b, c])))


@given(signals)
def test_every_value_lies_in_its_bin(values: np.ndarray) -> None:
    found = summary(values)
    assert found.counts.sum() == values.size
    bins = np.floor(values.astype(np.float64) / 2.0**found.exponent).astype(int).ravel()
    assert np.abs(values.astype(np.float64)).max() < BINS * 2.0**found.exponent
    assert (np.bincount(bins + BINS, minlength=2 * BINS) == found.counts).all()


@given(signals, st.integers(-180, 60))
def test_bins_are_exact_at_every_width(values: np.ndarray, exponent: int) -> None:
    exact = np.floor(values.astype(np.longdouble) / np.longdouble(2) ** exponent)
    expected = np.clip(exact, -BINS, BINS - 1) + BINS
    np.testing.assert_array_equal(subject.bins_of(values.ravel(), exponent), expected.ravel())


def test_a_large_tensor_is_sampled_evenly_but_its_extremes_are_exact() -> None:
    values = np.zeros((1, 2, 64, 64), np.float32)
    values[:, :, :, 1::2] = 1.0
    values[0, 1, 50, 50], values[0, 0, 3, 4] = -7.0, 9.0
    found = summary(values[0][np.newaxis])
    assert (found.minimum, found.maximum) == (-7.0, 9.0)
    assert found.counts.sum() <= 4096
    odd_columns = found.counts[BINS + round(1 / 2.0**found.exponent)]
    assert abs(odd_columns / found.counts.sum() - 0.5) < 0.02


@pytest.mark.parametrize(("size", "sampled"), [(4096, 4096), (4097, 2049), (8192, 2731), (12288, 2458)])
def test_at_most_4096_values_of_an_image_are_sampled_at_strides_that_visit_all_columns(size: int, sampled: int) -> None:
    assert summary(np.arange(size).reshape(1, 1, size)).counts.sum() == sampled


def test_a_dead_tensors_bins_are_the_finest_that_a_number_can_have() -> None:
    smallest = np.float32(2.0**-149)
    assert summary(np.zeros((1, 1, 4))).exponent == summary(np.full((1, 1, 4), smallest)).exponent == -160


def test_values_beyond_a_histogram_are_in_its_last_bins() -> None:
    values = np.array([-4097, -4096, -4095.5, -0.5, 0, 4095.5, 4096, 1e30], np.float32)
    assert bins_of(values, 0).tolist() == [0, 0, 0, 4095, 4096, 8191, 8191, 8191]
    assert bins_of(values[3:6], 1).tolist() == [4095, 4096, 4096 + 2047]


def test_bins_that_widen_beyond_all_bounds_keep_their_sign() -> None:
    """A tensor that was all but dead on some images, and huge on another."""
    tiny = summary(np.array([[[-1e-40, 0.0, 1e-40, 1e-40]]]))
    both = merge(tiny, summary(np.array([[[3e38]]])))
    assert {index: int(both.counts[index]) for index in np.flatnonzero(both.counts)} == {4095: 1, 4096: 3, 7707: 1}


def test_every_piece_of_a_batch_counts_and_is_numbered(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]>
        inverse (uint8[batch, 4, 4, 3] image) => (float[batch, 4, 4, 3] ratio) <float one = {1.0}>
        {
            pixels = Cast<to = 1>(image)
            ratio = Div(one, pixels)
        }"""
    )
    path = tmp_path / "inverse.onnx"
    path.write_bytes(model.SerializeToString())
    images = np.ones((50, 4, 4, 3), np.uint8)
    images[:, 0, 0, 0] = range(1, 51)
    found = observe(path, [images], ["pixels"])["pixels"]
    assert (found.images, found.maximum, found.mean_maximum, found.mean_minimum) == (50, 50.0, 25.5, 1.0)
    images[44, 2, 1, 0] = 0
    with pytest.raises(ConversionError, match="on calibration image 54;"):
        observe(path, [images[:10], images], ["ratio"])


def test_statistics_are_what_onnx_runtime_computes(v1: SimpleNamespace) -> None:
    model = onnx.load(v1.path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in TENSORS[:2])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = session.run(list(TENSORS), {"image": v1.images})
    for name, value in zip(TENSORS, values, strict=True):
        found = v1.statistics[name]
        per_image = value.reshape(len(value), -1)
        assert found.images == len(v1.images)
        assert np.isclose(found.minimum, value.min(), rtol=1e-5)
        assert np.isclose(found.maximum, value.max(), rtol=1e-5)
        assert np.isclose(found.mean_minimum, per_image.min(axis=1).mean(), rtol=1e-5)
        assert np.isclose(found.mean_maximum, per_image.max(axis=1).mean(), rtol=1e-5)
        channels = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)
        assert np.allclose(found.channel_minima, channels.min(axis=1), rtol=1e-5, atol=1e-6)
        assert np.allclose(found.channel_maxima, channels.max(axis=1), rtol=1e-5, atol=1e-6)


def test_neither_order_nor_batches_change_the_result(v1: SimpleNamespace) -> None:
    shuffled = v1.images[np.random.default_rng(1).permutation(len(v1.images))]
    again = observe(v1.path, [shuffled[:5], shuffled[5:6], shuffled[6:]], list(v1.statistics))
    assert [name for name in again if not same(again[name], v1.statistics[name])] == []


@pytest.mark.parametrize("cores", [1, 3])
def test_cores_do_not_change_the_result(v1: SimpleNamespace, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "workers", lambda: cores)
    again = observe(v1.path, [v1.images], list(v1.statistics))
    assert [name for name in again if not same(again[name], v1.statistics[name])] == []


def test_memory_does_not_grow_with_the_number_of_images(v1: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []

    def batches() -> Iterator[np.ndarray]:
        for _ in range(6):
            alive.append(1)
            yield v1.images[:2]

    def spying_merge(one: TensorStatistics, other: TensorStatistics) -> TensorStatistics:
        # A batch is asked for only when the one before has been merged away.
        assert other.images <= 2
        assert one.images + other.images > 2 * (len(alive) - 1)
        return merge(one, other)

    monkeypatch.setattr(subject, "merge", spying_merge)
    assert observe(v1.path, batches(), ["logits"])["logits"].images == 12


@pytest.mark.parametrize("numerator", ["one", "gap"])
def test_a_nan_or_infinite_activation_is_named_with_its_image(tmp_path: Path, numerator: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]>
        breaks_on_white (uint8[batch, 32, 32, 3] image) => (float[batch, 32, 32, 3] ratio)
        <float one = {{1.0}}, float white = {{255.0}}>
        {{
            pixels = Cast<to = 1>(image)
            gap = Sub(white, pixels)
            ratio = Div({numerator}, gap)
        }}"""
    )
    path = tmp_path / "breaks.onnx"
    path.write_bytes(model.SerializeToString())
    images = np.zeros((24, 32, 32, 3), np.uint8)
    images[19, 3, 4, 1] = 255
    with pytest.raises(ConversionError, match=r"tensor ratio is NaN or infinite on calibration image 19;"):
        observe(path, [images[:4], images[4:]], ["pixels", "ratio"])
    ids = [f"photos/{index}.png" for index in range(24)]
    with pytest.raises(ConversionError, match=r"tensor ratio is NaN or infinite on calibration image photos/19\.png;"):
        observe(path, [images[:4], images[4:]], ["pixels", "ratio"], ids)


def test_no_images_an_unknown_tensor_and_a_wrong_size_are_refused(v1: SimpleNamespace) -> None:
    with pytest.raises(ConversionError, match="no images"):
        observe(v1.path, [], ["logits"])
    with pytest.raises(ConversionError, match="'nowhere'"):
        observe(v1.path, [v1.images], ["nowhere"])
    with pytest.raises(ConversionError, match="calibration image 0 does not run"):
        observe(v1.path, [v1.images[:, :16]], ["logits"])


@pytest.mark.parametrize("size", [1, 5, 64, 65])
def test_extremes_are_exact_for_rows_of_every_length(size: int) -> None:
    values = np.random.default_rng(size).normal(0.0, 3.0, (3, 4, size)).astype(np.float32)
    found = summary(values)
    np.testing.assert_array_equal(found.channel_minima, values.min(axis=(0, 2)))
    np.testing.assert_array_equal(found.channel_maxima, values.max(axis=(0, 2)))
    assert found.sum_of_minima == sum(map(Fraction, values.min(axis=(1, 2)).tolist()))
    assert found.sum_of_maxima == sum(map(Fraction, values.max(axis=(1, 2)).tolist()))
