from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_networks import random_network
from twins import chain_twin, gate_twin, squeeze_twin

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.architecture import Variant
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.calibration.observe import TensorStatistics, observe
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.chains import Chain, chains
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.rewrites.scale_channels import scale_channels
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.search import equalize as subject
from rexnet_export.quantization.search.equalize import equalize
from rexnet_export.quantization.table.rewrites import ChannelScaling
from rexnet_export.quantization.table.table import Calibration

SMALLEST = 2.0**-14

SIZE = 32
VARIANTS: tuple[tuple[Variant, float, bool], ...] = (
    ("v1", 0.25, True),
    ("r", 0.25, True),
    ("r", 0.25, False),
    ("lite", 0.5, True),
)
CALIBRATION = Calibration(images_sha256="0" * 64, images=12, statistic="min-max", seed=0)


def images(count: int, seed: int) -> NDArray[np.uint8]:
    """Coarse colour blotches, so that activations and logits differ between images."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def logits(model: onnx.ModelProto) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(["logits"], {"image": images(8, seed=1)})[0]
    return found.astype(np.float64)


def difference(one: onnx.ModelProto, other: onnx.ModelProto) -> float:
    expected = logits(one)
    return float(np.abs(logits(other) - expected).max() / np.abs(expected).max())


def exported(network: ReXNet) -> onnx.ModelProto:
    return float_graph(network, Preprocess(size=SIZE))


@cache
def model_of(variant: Variant, width: float, use_se: bool) -> onnx.ModelProto:  # noqa: FBT001
    return exported(random_network(variant, width, use_se=use_se))


def statistics_of(model: onnx.ModelProto, folder: Path) -> dict[str, TensorStatistics]:
    path = folder / "float.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return observe(path, [images(12, seed=0)], observed_tensors(model))


def scalings(model: onnx.ModelProto, seed: int, exponent: float) -> list[ChannelScaling]:
    """Every chain, log-uniform in 2^-exponent to 2^exponent."""
    random = np.random.default_rng(seed)
    return [
        ChannelScaling(tensor=chain.name, factors=tuple(2 ** random.uniform(-exponent, exponent, chain.channels)))
        for chain in chains(view(model))
    ]


@pytest.mark.parametrize("which", VARIANTS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(0, 6))
def test_any_factors_leave_the_function_as_it_is(
    which: tuple[Variant, float, bool], seed: int, exponent: float
) -> None:
    model = model_of(*which)
    assert difference(model, apply(model, scalings(model, seed, exponent))) < 2e-6


def test_powers_of_two_change_not_a_bit(v1: SimpleNamespace) -> None:
    powers = [
        replace(scaling, factors=tuple(2.0 ** np.rint(np.log2(scaling.factors))))
        for scaling in scalings(v1.model, 0, 6)
    ]
    scaled = apply(v1.model, powers)
    assert difference(v1.model, scaled) == 0.0
    before, after = ({tensor.name: tensor for tensor in model.graph.initializer} for model in (v1.model, scaled))
    assert [name for name, tensor in before.items() if after[name] != tensor]


def test_the_tensors_themselves_are_divided(v1: SimpleNamespace, tmp_path: Path) -> None:
    (chain,) = (chain for chain in chains(view(v1.model)) if chain.name == "features.2.residual")
    factors = tuple(2.0 ** (i % 7 - 3) for i in range(chain.channels))
    scaled = apply(v1.model, [ChannelScaling(tensor=chain.name, factors=factors)])
    before, after = (statistics_of(model, tmp_path) for model in (v1.model, scaled))
    for name, width in chain.tensors.items():
        if name in before:
            expected = before[name].channel_maxima / factors[:width]
            assert np.allclose(after[name].channel_maxima, expected, rtol=1e-6)
    for name in before.keys() - chain.tensors:
        assert np.array_equal(after[name].channel_maxima, before[name].channel_maxima)


def test_factors_of_one_leave_every_byte(v1: SimpleNamespace) -> None:
    before = v1.model.SerializeToString(deterministic=True)
    ones = [replace(s, factors=(1.0,) * len(s.factors)) for s in scalings(v1.model, 0, 1)]
    assert apply(v1.model, ones).SerializeToString(deterministic=True) == before
    apply(v1.model, scalings(v1.model, 0, 4))
    assert v1.model.SerializeToString(deterministic=True) == before


def test_a_residual_convolution_that_reads_what_it_adds_to_takes_both_factors() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]> g (float[1, 2, 1, 1] image) => (float[1, 2, 1, 1] logits)
        <float[2, 2, 1, 1] v = {1, 2, 3, 4}, float[2, 2, 1, 1] w = {5, 6, 7, 8}, float[2, 2, 1, 1] u = {1, -1, 1, 1}>
        { t = Conv(image, v) s = Conv(t, w) sum = Add(t, s) logits = Conv(sum, u) }"""
    )
    scaled = scale_channels(model, ChannelScaling(tensor="sum", factors=(2.0, 8.0)))
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor).ravel().tolist() for tensor in scaled.graph.initializer}
    assert weights == {"v": [0.5, 1, 3 / 8, 0.5], "w": [5, 24, 7 / 4, 8], "u": [2, -8, 2, 8]}


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (ChannelScaling(tensor="features.3.depthwise", factors=(2.0,)), "features.3.depthwise cannot be rescaled"),
        (ChannelScaling(tensor="nowhere", factors=(2.0,)), "nowhere cannot be rescaled"),
        (ChannelScaling(tensor="features.1.project", factors=(2.0,)), "features.1.project cannot be rescaled"),
        (ChannelScaling(tensor="features.2.residual", factors=(2.0,)), "channels, its rewrite 1 factors"),
    ],
)
def test_a_rewrite_of_another_network_is_named(v1: SimpleNamespace, scaling: ChannelScaling, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        scale_channels(v1.model, scaling)


def test_weights_beyond_float32_are_refused(v1: SimpleNamespace) -> None:
    (chain,) = (chain for chain in chains(view(v1.model)) if chain.name == "features.2.residual")
    with pytest.raises(ConversionError, match=r"features\.1\.project\.\w+ is beyond float32"):
        scale_channels(v1.model, ChannelScaling(tensor=chain.name, factors=(1e-45,) * chain.channels))


def agreement_db(model: onnx.ModelProto, quantized: onnx.ModelProto) -> float:
    expected = logits(model)
    return float(10 * np.log10((expected**2).sum() / ((logits(quantized) - expected) ** 2).sum()))


def quantized_db(model: onnx.ModelProto, statistics: dict[str, TensorStatistics]) -> float:
    return agreement_db(model, insert_qdq(model, decide(model, statistics, CALIBRATION), "uint8"))


@pytest.mark.parametrize(
    ("twin", "lost"), [(chain_twin, 20), (partial(squeeze_twin, spread=64.0), 0.3)], ids=["chain", "squeeze"]
)
def test_a_twin_in_int8_comes_back_to_the_network_it_was_made_from(
    twin: Callable[[ReXNet], ReXNet], lost: float, tmp_path: Path
) -> None:
    network = random_network("v1", 0.25)
    plain = exported(network)
    hard = exported(twin(network))
    assert difference(plain, hard) < 2e-5
    statistics = statistics_of(hard, tmp_path)
    chosen = equalize(hard, statistics)
    equalized = apply(hard, chosen)
    assert difference(hard, equalized) < 2e-6
    expected = quantized_db(plain, statistics_of(plain, tmp_path))
    assert quantized_db(hard, statistics) < expected - lost
    assert quantized_db(equalized, statistics_of(equalized, tmp_path)) > expected - 1
    assert equalize(equalized, statistics_of(equalized, tmp_path)) == ()


def test_a_gate_takes_the_factors_of_what_it_multiplies(tmp_path: Path) -> None:
    hard = exported(gate_twin(random_network("v1", 0.25), low=1 / 4, high=128))
    statistics = statistics_of(hard, tmp_path)
    chosen = [scaling for scaling in equalize(hard, statistics) if chain_named(hard, scaling.tensor).gates]
    assert len(chosen) > 6
    equalized = apply(hard, chosen)
    assert difference(hard, equalized) < 2e-6
    assert len(equalized.graph.node) == len(hard.graph.node) + len(chosen)
    onnx.checker.check_model(equalized, full_check=True)
    assert quantized_db(equalized, statistics_of(equalized, tmp_path)) > quantized_db(hard, statistics) + 10


def test_the_same_inputs_give_the_same_factors(tmp_path: Path) -> None:
    hard = exported(chain_twin(random_network("v1", 0.25), seed=1))
    statistics = statistics_of(hard, tmp_path)
    once, again = (equalize(hard, dict(order)) for order in (statistics.items(), reversed(statistics.items())))
    assert once == again != ()
    assert all(float(f"{factor:.3g}") == factor for scaling in once for factor in scaling.factors)


def chain_named(model: onnx.ModelProto, name: str) -> Chain:
    return next(chain for chain in chains(view(model)) if chain.name == name)


def observed_as(chain: Chain, peaks: list[float]) -> dict[str, TensorStatistics]:
    """Statistics in which every tensor of a chain has these peaks."""
    high = np.array(peaks, np.float32)
    return {
        name: TensorStatistics(
            images=1,
            minimum=-max(peaks),
            maximum=max(peaks),
            sum_of_minima=Fraction(-max(peaks)),
            sum_of_maxima=Fraction(max(peaks)),
            channel_minima=-high[:width],
            channel_maxima=high[:width],
            exponent=0,
            counts=np.zeros(1, np.int64),
        )
        for name, width in chain.tensors.items()
    }


THREE = """<ir_version: 8, opset_import: ["": 18]> g (float[1, 1, 1, 1] image) => (float[1, 2, 1, 1] logits)
<float[3, 1, 1, 1] v = {1, 1, 1}, float[2, 3, 1, 1] w = {1, 1, 1, 1, 1, 1}>
{ t = Conv(image, v) logits = Conv(t, w) }"""


def factors_for(peaks: list[float]) -> tuple[float, ...]:
    model = onnx.parser.parse_model(THREE)
    return next((scaling.factors for scaling in equalize(model, observed_as(chain_named(model, "t"), peaks))), ())


@pytest.mark.parametrize("peaks", [[1.0, 1.0, 1.0], [1.0, 0.5, 1.0], [100.0, 100.0, 0.5], [0.0, 0.0, 0.0]])
def test_where_little_is_to_be_won_there_are_no_factors(peaks: list[float]) -> None:
    assert factors_for(peaks) == ()


@pytest.mark.parametrize("peaks", [[1.0, 0.01, 0.1], [100.0, 1.0, 0.5], [1e-20, 1e-22, 1e-21], [3.0, 0.0, 0.01]])
def test_factors_even_out_the_peaks_and_keep_the_largest(peaks: list[float]) -> None:
    alive = [(peak, peak / factor) for peak, factor in zip(peaks, factors_for(peaks), strict=True) if peak]
    before, after = ([pair[i] for pair in alive] for i in (0, 1))
    assert max(after) == pytest.approx(max(before), rel=1e-2)
    assert max(after) / min(after) < 1.02 * np.sqrt(max(before) / min(before))


@pytest.mark.parametrize("peak", [0.0, 1e-30, 1e-12])
def test_a_channel_that_hardly_lives_is_not_blown_up(peak: float) -> None:
    factors = factors_for([1.0, peak, 0.01])
    assert min(factors) > 0.99 * SMALLEST * max(factors)
    assert peak or factors[2] < factors[1] < factors[0]


WEIGHTS = [[1.0, -2.0, 0.5], [0.25, 4.0, -3.0]]
LOWS, HIGHS, FACTORS = [-1.0, -8.0, 0.0], [2.0, 3.0, 0.5], [1.0, 4.0, 0.5]


def test_the_predicted_noise_is_that_of_the_docstring() -> None:
    model = onnx.parser.parse_model(THREE)
    values = np.array(WEIGHTS, np.float32)[:, :, None, None]
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    chain = chain_named(model, "t")
    ends = {"channel_minima": np.array(LOWS, np.float32), "channel_maxima": np.array(HIGHS, np.float32)}
    statistics = {name: replace(found, **ends) for name, found in observed_as(chain, [1.0] * 3).items()}
    peaks = [max(-low, high) for low, high in zip(LOWS, HIGHS, strict=True)]
    step = (
        max(high / factor for high, factor in zip(HIGHS, FACTORS, strict=True))
        - min(low / factor for low, factor in zip(LOWS, FACTORS, strict=True))
    ) / 255
    noise = signal = 0.0
    for row in WEIGHTS:
        step_of_row = max(abs(weight) * factor for weight, factor in zip(row, FACTORS, strict=True)) / 127
        for weight, peak, factor in zip(row, peaks, FACTORS, strict=True):
            noise += ((step * weight * factor) ** 2 + (step_of_row * peak / 4 / factor) ** 2) / 12
            signal += (weight * peak / 4) ** 2
    assert subject._noise(chain, view(model), statistics, np.array(FACTORS)) == pytest.approx(noise / signal)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(0 * values, "w"))
    assert subject._noise(chain, view(model), statistics, np.array(FACTORS)) == 0.0


@pytest.mark.parametrize("balance", [1.0, 0.75, 0.5])
def test_factors_are_peaks_over_weights_and_dead_channels_weigh_as_the_median(balance: float) -> None:
    peaks, weights = np.array([8.0, 2.0, 0.0]), np.array([1.0, 4.0, 0.5])
    factors = subject._factors(peaks, weights, balance)
    assert factors[0] / factors[1] == pytest.approx(4**balance / 0.25 ** (1 - balance))
    assert factors[2] * weights[2] == pytest.approx(np.median(factors[:2] * weights[:2]))
    assert (peaks / factors).max() == pytest.approx(8.0)


@pytest.mark.parametrize(("after", "worthwhile"), [(0.5, False), (0.499, True)])
def test_noise_must_fall_by_half(after: float, monkeypatch: pytest.MonkeyPatch, *, worthwhile: bool) -> None:
    noises = iter([1.0, 0.9, after, 0.7])
    balances = []
    monkeypatch.setattr(subject, "_noise", lambda *_: next(noises))
    monkeypatch.setattr(subject, "_factors", lambda peaks, _, balance: balances.append(balance) or balance * peaks)
    assert bool(factors_for([1.0, 2.0, 3.0])) == worthwhile
    assert balances == [1.0, 0.75, 0.5]


@pytest.mark.parametrize(("peaks", "factors"), [([4.0, 1.0, 1.0], None), ([4.5, 1.0, 0.5], (1.0, 0.222, 0.111))])
def test_a_gates_tensor_is_uneven_from_four_times_its_median_peak_on(
    peaks: list[float], factors: tuple[float, ...] | None
) -> None:
    chain = chain_named(onnx.parser.parse_model(THREE), "t")
    found = subject._gated_scaling(chain, np.array(peaks))
    assert (found and found.factors) == factors


def test_what_was_not_observed_is_named(v1: SimpleNamespace) -> None:
    others = {name: found for name, found in v1.statistics.items() if name != "features.2.residual"}
    with pytest.raises(ConversionError, match=r"features\.2\.residual was not observed"):
        equalize(v1.model, others)
