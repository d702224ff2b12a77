"""Channel equalization: dividing a chain's channels by factors, exactly compensated in the weights around it.

Activations are quantized per tensor, so channels of a small range get few of its 255 steps. With factors that even
out the ranges, every channel gets its share (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction"; here along residual chains, where all tensors share their factors).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.errors import ConversionError
from rexnet_export.quantization.chains import Chain, chains
from rexnet_export.quantization.graph import GraphView, view
from rexnet_export.quantization.observe import TensorStatistics
from rexnet_export.quantization.qparams import LEVELS, WEIGHT_MAX
from rexnet_export.quantization.rewrites import ChannelScaling

BALANCES = (1.0, 0.75, 0.5)  # 1 evens out the activations alone, 1/2 activations and weights alike
WORTHWHILE = 2.0  # by what the predicted noise must fall: 3 dB, half a bit
SMALLEST = 2.0**-14  # of the largest channel: what is smaller is not told from noise
PEAK_FACTOR = 4.0  # of activations, peak to root mean square
DIGITS = 3  # of a factor: finer ones change nothing that INT8 could show

type Channels = NDArray[np.float64]


def equalize(model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics]) -> tuple[ChannelScaling, ...]:
    """The rescalings that pay in INT8, from a float model and the statistics of its observed tensors.

    A chain whose channels are even enough gets none, and the graph stays as it is. Otherwise channel c is divided by
    peak_c^b / weight_c^(1 - b), with the largest weight that reads it and the b of `BALANCES` of least predicted noise.
    """
    graph = view(model)
    scalings = (_scaling(chain, graph, statistics) for chain in chains(graph))
    return tuple(scaling for scaling in scalings if scaling is not None)


def _scaling(chain: Chain, graph: GraphView, statistics: Mapping[str, TensorStatistics]) -> ChannelScaling | None:
    peaks = _floored(_peaks(chain, statistics))
    weights = _floored(_largest_weights(chain, graph))
    before = _noise(chain, graph, statistics, np.ones(chain.channels))
    candidates = [_rounded(_factors(peaks, weights, balance)) for balance in BALANCES]
    noises = [_noise(chain, graph, statistics, factors) for factors in candidates]
    if not min(noises) * WORTHWHILE < before:
        return None
    return ChannelScaling(tensor=chain.name, factors=tuple(candidates[int(np.argmin(noises))].tolist()))


def _factors(peaks: Channels, weights: Channels, balance: float) -> Channels:
    """peak^b / weight^(1 - b), times the constant that leaves the tensor's largest peak where it was."""
    factors = peaks**balance / weights ** (1 - balance)
    return np.asarray(factors * ((peaks / factors).max() / peaks.max()))


def _rounded(factors: Channels) -> Channels:
    return np.array([float(f"{factor:.{DIGITS}g}") for factor in factors])


def _floored(values: Channels) -> Channels:
    """Without zeros: dead channels count as the median one, hardly living ones as `SMALLEST` of the largest."""
    alive = values[values > 0]
    if not alive.size:
        return np.ones_like(values)
    return np.where(values > 0, np.maximum(values, alive.max() * SMALLEST), np.median(alive))


def _peaks(chain: Chain, statistics: Mapping[str, TensorStatistics]) -> Channels:
    """Of each channel, the largest magnitude in any of the chain's observed tensors."""
    peaks = np.zeros(chain.channels)
    for name, width in chain.tensors.items():
        if name in statistics:
            peaks[:width] = np.maximum(peaks[:width], _peak(statistics[name]))
    return peaks


def _peak(statistics: TensorStatistics) -> Channels:
    return np.maximum(statistics.channel_maxima, -statistics.channel_minima).astype(np.float64)


def _largest_weights(chain: Chain, graph: GraphView) -> Channels:
    """Of each channel, the largest weight that reads it."""
    largest = np.zeros(chain.channels)
    for node in chain.consumers:
        found = _columns(node, graph).max(axis=0)
        largest[: len(found)] = np.maximum(largest[: len(found)], found)
    return largest


def _columns(node: onnx.NodeProto, graph: GraphView) -> Channels:
    """Magnitudes of a convolution's weights [outputs, channels], the largest of all kernel positions."""
    weights = np.abs(graph.constants[node.input[1]].astype(np.float64))
    return np.asarray(weights.max(axis=(2, 3)))


def _noise(chain: Chain, graph: GraphView, statistics: Mapping[str, TensorStatistics], factors: Channels) -> float:
    """Predicted power of the rounding noise at the convolutions that read the chain, relative to the signal's there.

    With uniform noise of step^2 / 12: sum over o, c of (step * w_oc a_c)^2 for the activations' part, and of
    (step_o * x_c / a_c)^2 for the weights', where x_c has the root mean square peak_c / `PEAK_FACTOR`.
    """
    noise = 0.0
    for node in chain.consumers:
        name = node.input[0]
        if name not in statistics:
            raise ConversionError(f"{name} was not observed; calibrate on the tensors that observed_tensors names")
        found, mine = statistics[name], factors[: chain.tensors[name]]
        weights = _columns(node, graph)
        mean_square = (_peak(found) / PEAK_FACTOR) ** 2
        step = ((found.channel_maxima / mine).max() - (found.channel_minima / mine).min()) / LEVELS
        weight_steps = (weights * mine).max(axis=1) / WEIGHT_MAX
        rounding = step**2 * ((weights * mine) ** 2).sum() + (weight_steps**2).sum() * (mean_square / mine**2).sum()
        signal = (weights**2 * mean_square).sum()
        noise += rounding / 12 / signal if signal else 0.0
    return float(noise)


def scale_channels(model: onnx.ModelProto, scaling: ChannelScaling) -> onnx.ModelProto:
    """Divide the channels of a chain by `factors`, the chain named by its widest tensor.

    Only weights and biases change; with factors that are powers of two, not even their digits:

        Conv (W, b) -> t -> Conv (V, c)      becomes      Conv (W / a, b / a) -> t / a -> Conv (V * a, c)

    where rows of W and b, and columns of V, take the factor of their channel.
    """
    graph = view(model)
    chain = next((chain for chain in chains(graph) if chain.name == scaling.tensor), None)
    if chain is None:
        raise ConversionError(f"channels of {scaling.tensor} cannot be rescaled in this network; make the table again")
    if len(scaling.factors) != chain.channels:
        raise ConversionError(
            f"{scaling.tensor} has {chain.channels} channels, its rewrite {len(scaling.factors)} factors; "
            "make the table again"
        )
    changed = _rescaled(chain, graph, np.asarray(scaling.factors, np.float64))
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    for tensor in scaled.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return scaled


def _rescaled(chain: Chain, graph: GraphView, factors: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """The parameters that differ afterwards; a convolution may both read the chain and add to it."""
    changed: dict[str, NDArray[np.float32]] = {}

    def scale(name: str, by: NDArray[np.float64], axis: int) -> None:
        real = changed.get(name, graph.constants[name])
        shape = [1] * real.ndim
        shape[axis] = -1
        with np.errstate(over="ignore"):  # refused by name below
            values = (real.astype(np.float64) * by.reshape(shape)).astype(np.float32)
        if not np.isfinite(values).all():
            raise ConversionError(f"{name} is beyond float32 once {chain.name} is rescaled; check the weights")
        if not np.array_equal(by, np.ones_like(by)):
            changed[name] = values

    for node in chain.producers:
        mine = factors[: chain.tensors[node.output[0]]]
        for name in node.input[1:]:
            scale(name, 1 / mine, 0)
    for node in chain.consumers:
        scale(node.input[1], factors[: chain.tensors[node.input[0]]], 1)
    return changed
