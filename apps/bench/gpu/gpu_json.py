"""What `rexnet-bench gpu --json` prints (`gpu.schema.json`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict

from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Fraction, Measurement, NotMeasured, Positive, Text
from rexnet_export.pipeline.machine.environment import Environment
from rexnet_export.targets.gpu.measure import Cell


class DeviceJson(JsonRecord):
    """What ran the network."""

    name: Text
    is_gpu: bool
    """Where this is false, nothing in the record is a GPU's."""
    compute_capability: Measurement[Text]
    memory_bytes: Measurement[AtLeastOne]
    torch_cuda: Measurement[Text]
    """The CUDA version that torch was built for."""


class ModelJson(JsonRecord):
    """The network, and what one image asks of it."""

    name: Text
    sha256: Sha256
    input: tuple[AtLeastOne, AtLeastOne, AtLeastOne]
    """Height, width, channels."""
    macs: AtLeastOne


class PeakJson(JsonRecord):
    """What this device does at most, measured before the forms."""

    flops: dict[Text, Measurement[Positive]]
    """A second, by number format: a large product of square matrices."""
    bandwidth: Positive
    """Bytes a second read and written in a large copy."""


class CellJson(JsonRecord):
    """A form at a batch size."""

    timing: Cell
    flops: Positive
    """Of the convolutions and linear layers, two a multiply-accumulate, a second."""
    peak_share: Measurement[Positive]
    """Of the product's."""
    roofline_share: Measurement[Positive]
    """Of the speed that arithmetic and memory would allow layer by layer; above 1 where layers were fused."""


class FormJson(JsonRecord):
    """One way to run the network."""

    says: Text
    executed_by: Measurement[Text]
    accuracy: Measurement[Accuracy]
    agreement_with_reference: Measurement[Fraction]
    """Images with the same top-1 class as the float reference in torch."""
    batches: dict[str, Measurement[CellJson]]


class FeedJson(JsonRecord):
    """Evaluation as it runs: images decoded in threads ahead of the network."""

    form: Text
    batch: AtLeastOne
    n: AtLeastOne
    decoder_images_per_s: Positive
    """Alone."""
    network_images_per_s: Positive
    """Alone, pixels on the device."""
    fed_images_per_s: Positive
    """Both together, copies included."""
    limit: Literal["decoder", "network"]
    """The slower of the two."""


class GpuJson(JsonRecord):
    """The desktop network in every form that this machine can run."""

    model_config = ConfigDict(title="What `rexnet-bench gpu --json` prints")

    schema_version: Literal[1] = 1
    device: DeviceJson
    model: ModelJson
    images: Measurement[Text]
    """What accuracy was measured on, by name."""
    images_sha256: Measurement[Sha256]
    seconds_per_cell: Positive
    peak: PeakJson
    forms: dict[str, FormJson]
    feed: Measurement[FeedJson]
    environment: Environment

    def cells(self) -> Iterator[tuple[str, CellJson]]:
        """Those that were measured, with the form's name."""
        for name, form in self.forms.items():
            yield from ((name, cell) for cell in form.batches.values() if not isinstance(cell, NotMeasured))

    @property
    def measured(self) -> int:
        """How many they are."""
        return sum(1 for _ in self.cells())
