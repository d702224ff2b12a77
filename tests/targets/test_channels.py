"""Images of four channels, as other sensors give them, in every format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from lively_networks import blotches
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.paired_statistics import sqnr_db
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.self_test import SelfTest, check, sample_thumbnails
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.targets import TARGETS

LEAST_DB: Mapping[Precision, float] = {"fp32": 70.0, "int8": 5.0}
FORMATS = ("coreml", "tflite", "ort", "openvino")
CASES = [(name, p) for name in FORMATS for p in LEAST_DB if p in TARGETS[name].precisions]


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_every_format_answers_as_torch_does(
    name: str,
    precision: Precision,
    channel_sources: tuple[ReXNet, Mapping[Precision, Source]],
    tmp_path: Path,
) -> None:
    network, sources = channel_sources
    source, target, images = sources[precision], TARGETS[name], blotches(19, 32, seed=2, channels=4)
    artifact = target.convert(source, tmp_path, f"small-{precision}")
    with torch.inference_mode():
        expected = network(Normalize(source.card.preprocess, torch.device("cpu"))(torch.from_numpy(images))).numpy()
    session, inspection = target.open(artifact), target.inspect(artifact)
    assert sqnr_db(expected, session.run(images)) > LEAST_DB[precision]
    assert sqnr_db(expected, session.run(images[..., ::-1].copy())) < 3  # no two channels are the same
    assert card_from(inspection.metadata).preprocess == source.card.preprocess
    assert isinstance(check(session, inspection.metadata, inspection.qparams), SelfTest)
    if source.table is not None:
        assert inspection.qparams["stem.silu"] == source.table.tensors["stem.silu"].params
    with pytest.raises(DataError, match="32, 32, 4"):
        session.run(np.ascontiguousarray(images[..., :3]))


def test_the_samples_of_no_photos_differ_in_every_channel() -> None:
    images: NDArray[np.uint8] = sample_thumbnails(4)
    assert images.shape == (4, 32, 32, 4)
    pairs = [(one, other) for one in range(4) for other in range(one)]
    assert all((images[..., one] != images[..., other]).any() for one, other in pairs)
