"""Channel equalization: which chains to rescale, and by what factors.

Activations are quantized per tensor, so channels of a small range get few of its 255 steps. With factors that even
out the ranges, every channel gets its share (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction"; here along residual chains, where all tensors share their factors).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.calibration.observe import TensorStatistics
from rexnet_export.quantization.onnx.view import GraphView, view
from rexnet_export.quantization.rewrites.chains import Chain, chains
from rexnet_export.quantization.table.params import LEVELS, WEIGHT_MAX
from rexnet_export.quantization.table.rewrites import ChannelScaling

BALANCES = (1.0, 0.75, 0.5)  # 1 evens out the activations alone, 1/2 activations and weights alike
WORTHWHILE = 2.0  # by what the predicted noise must fall: 3 dB, half a bit
UNEVEN = 4.0  # a gate's tensor: largest peak to median one, from which half its channels lose two bits
SMALLEST = 2.0**-14  # of the largest channel: what is smaller is not told from noise
PEAK_FACTOR = 4.0  # of activations, peak to root mean square
DIGITS = 3  # of a factor: finer ones change nothing that INT8 could show

type Channels = NDArray[np.float64]


def equalize(model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics]) -> tuple[ChannelScaling, ...]:
    """The rescalings that pay in INT8, from a float model and the statistics of its observed tensors.

    A chain whose channels are even enough gets none, and the graph stays as it is. Otherwise channel c is divided by
    peak_c^b / weight_c^(1 - b), with the largest weight that reads it and the b of `BALANCES` of least predicted noise.
    What a gate multiplies has b = 1: how much of a channel passes the gate is not observed.
    """
    graph = view(model)
    scalings = (_scaling(chain, graph, statistics) for chain in chains(graph))
    return tuple(scaling for scaling in scalings if scaling is not None)


def _scaling(chain: Chain, graph: GraphView, statistics: Mapping[str, TensorStatistics]) -> ChannelScaling | None:
    peaks = _peaks(chain, statistics)
    if not peaks.any():
        return None
    if chain.gates:
        return _gated_scaling(chain, _floored(peaks))
    weights = _floored(_largest_weights(chain, graph))
    before = _noise(chain, graph, statistics, np.ones(chain.channels))
    candidates = [_rounded(_factors(peaks, weights, balance)) for balance in BALANCES]
    noises = [_noise(chain, graph, statistics, factors) for factors in candidates]
    if not min(noises) * WORTHWHILE < before:
        return None
    return ChannelScaling(tensor=chain.name, factors=tuple(candidates[int(np.argmin(noises))].tolist()))


def _gated_scaling(chain: Chain, peaks: Channels) -> ChannelScaling | None:
    if peaks.max() <= UNEVEN * np.median(peaks):
        return None
    return ChannelScaling(tensor=chain.name, factors=tuple(_rounded(peaks / peaks.max()).tolist()))


def _factors(peaks: Channels, weights: Channels, balance: float) -> Channels:
    """peak^b / weight^(1 - b), times the constant that leaves the tensor's largest peak where it was.

    Dead channels have no peak: their weights get the median size of the others'.
    """
    alive = peaks > 0
    factors = _floored(peaks) ** balance / weights ** (1 - balance)
    factors = np.where(alive, factors, np.median((factors * weights)[alive]) / weights)
    return np.asarray(factors * ((peaks / factors).max() / peaks.max()))


def _rounded(factors: Channels) -> Channels:
    return np.array([float(f"{factor:.{DIGITS}g}") for factor in factors])


def _floored(values: Channels) -> Channels:
    """Without zeros: these count as the median of the others, and what is nearly zero as `SMALLEST` of the largest."""
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
