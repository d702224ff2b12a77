"""What a session gives for an image: its named outputs, and all of them as one row of numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Scores

LOGITS, PROBABILITIES, LOG_PROBABILITIES, HEAD = "logits", "probabilities", "log_probabilities", "head."
SOFTMAX_ERROR = 1e-5  # of a probability computed in float32
SMALLEST = np.finfo(np.float32).tiny


def are_outputs(names: Collection[str]) -> bool:
    """Whether a file of ours may give these: scores, with further heads beside them, or a backbone's feature maps."""
    if scores := {LOGITS, PROBABILITIES} & set(names):
        return all(name in scores or name.startswith(HEAD) for name in names)
    return bool(names) and all(name.startswith("features.") for name in names)


def declared(outputs: Sequence[str], scores: Scores) -> tuple[str, ...]:
    """The outputs of a classifier's file: the network's, these scores in the place of its logits."""
    chosen = (LOGITS, PROBABILITIES) if scores == "both" else (scores,)
    return tuple(name for output in outputs for name in (chosen if output == LOGITS else (output,)))


def network_outputs(declared: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """What the network itself gives, from what a file declares: float32 [N, classes] or [N, C, H, W] by name.

    Probabilities are the softmax of the logits: beside logits they are held to that (`ConversionError`); alone they
    become `log_probabilities`, which are the logits but for one number added to all of an image.
    """
    outputs = dict(declared)
    probabilities = outputs.pop(PROBABILITIES, None)
    if probabilities is None:
        return outputs
    if LOGITS not in outputs:
        return {LOG_PROBABILITIES: np.log(np.maximum(probabilities, SMALLEST)), **outputs}
    off = float(np.abs(np.exp(log_softmax(outputs[LOGITS])) - probabilities).max(initial=0.0))
    if not off <= SOFTMAX_ERROR:
        raise ConversionError(f"probabilities are up to {off:.2g} from the softmax of the logits; export it again")
    return outputs


def alike(
    reference: Mapping[str, NDArray[np.float32]], outputs: Mapping[str, NDArray[np.float32]]
) -> Mapping[str, NDArray[np.float32]]:
    """A reference's outputs as those that they are compared with: log-probabilities where those are."""
    if LOG_PROBABILITIES not in outputs or LOG_PROBABILITIES in reference:
        return reference
    others = {name: values for name, values in reference.items() if name != LOGITS}
    return {LOG_PROBABILITIES: log_probabilities(reference[LOGITS]), **others}


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a file that gives probabilities alone is compared by, from its logits or from themselves [N, classes]."""
    logarithms: NDArray[np.float32] = np.maximum(log_softmax(logits), np.log(SMALLEST)).astype(np.float32)
    return logarithms


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits [N, classes] less the logarithm of the sum of their exponentials, in float64.

    scipy has it too, and takes half a second to import.
    """
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def answer(outputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """What `Session.run` gives: the logits [N, classes], or log-probabilities where a file declares probabilities
    alone; of a backbone the mean of every channel of every output."""
    if LOGITS in outputs:
        return outputs[LOGITS]
    given = network_outputs(outputs)
    if LOG_PROBABILITIES in given:
        return given[LOG_PROBABILITIES]
    parts = [values.mean((2, 3)) for values in outputs.values()]
    return np.concatenate(parts, axis=1)
