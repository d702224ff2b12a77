"""What a finished file really holds, as its target reads it from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from rexnet_export.pipeline.artifact.fingerprints import Parameters, damaged
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.structure import Structure
from rexnet_export.pipeline.core.records import Coverage
from rexnet_export.quantization.table.params import QuantParams


class Inspection:
    """One file's answers. Each is read when it is asked for, and once: where one cannot be had, the others still can.

    What cannot be read raises the target's `ConversionError`.
    """

    def __init__(  # noqa: PLR0913 - each part is a question of its own
        self,
        *,
        metadata: Callable[[], dict[str, str]],
        coverage: Callable[[], Coverage],
        structure: Callable[[], Structure],
        qparams: Callable[[], dict[str, QuantParams]],
        parameters: Callable[[], Parameters],
        altered: Callable[[], list[str]] | None = None,
        compressed: Callable[[], Mapping[str, str]] = dict,
        declared: Callable[[], Sequence[str]] | None = None,
        inside: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Where `altered` is not given, it follows from the metadata's fingerprints, and `declared` from its card."""
        self._declared = declared
        self._compressed, self._inside = compressed, inside
        self._metadata, self._coverage, self._structure = metadata, coverage, structure
        self._qparams, self._parameters, self._altered = qparams, parameters, altered

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself: the map of `metadata.describe`."""
        return self._metadata()

    @cached_property
    def declared(self) -> tuple[str, ...]:
        """What the file declares as its outputs, by its own names and in its order."""
        return card_from(self.metadata).outputs if self._declared is None else tuple(self._declared())

    @cached_property
    def coverage(self) -> Coverage:
        """INT8 and float arithmetic, counted from the file."""
        return self._coverage()

    @cached_property
    def structure(self) -> Structure:
        """What the file is built of, for gates without tolerance."""
        return self._structure()

    @cached_property
    def qparams(self) -> dict[str, QuantParams]:
        """Scales and zero points that the file stores, by ONNX tensor name."""
        return self._qparams()

    @cached_property
    def inside(self) -> Mapping[str, str]:
        """Activations without parameters, as the runtime computes them inside another operator, whatever the table
        says of them; and the tensor that this operator makes, whose parameters the file has."""
        return self._inside()

    @cached_property
    def parameters(self) -> Parameters:
        """Weights and biases as the file stores them, integers (in the table's signed form) or real numbers.

        By ONNX tensor name and in ONNX layout: convolutions [out, in, h, w], matrices [out, in].
        """
        return self._parameters()

    @cached_property
    def altered(self) -> list[str]:
        """Tensors that no longer have the fingerprint the file was written with; what else changed does not matter."""
        return damaged(self.metadata, self.qparams, self.parameters) if self._altered is None else self._altered()

    @cached_property
    def compressed(self) -> Mapping[str, str]:
        """Weights that another tool has compressed since, by name, and in what form they are now."""
        return self._compressed()
