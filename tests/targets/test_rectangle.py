"""An input that is no square, with sides that are odd after four halvings, in every format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.paired_statistics import sqnr_db
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.self_test import SelfTest, check, enlarge
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.targets import TARGETS

SHAPE = (80, 48)
LEAST_DB: Mapping[Precision, float] = {"fp32": 70.0, "int8": 5.0}
FORMATS = ("coreml", "tflite", "ort", "openvino")
CASES = [(name, p) for name in FORMATS for p in LEAST_DB if p in TARGETS[name].precisions]


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_every_format_answers_as_torch_does(
    name: str,
    precision: Precision,
    rectangular_sources: Mapping[Precision, Source],
    network: ReXNet,
    images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    target, tall = TARGETS[name], enlarge(images, SHAPE)
    source = rectangular_sources[precision]
    artifact = target.convert(source, tmp_path, f"small-{precision}")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (source.card.preprocess.mean, source.card.preprocess.std))
    with torch.inference_mode():
        expected = network((torch.from_numpy(tall).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    session = target.open(artifact)
    assert sqnr_db(expected, session.run(tall)) > LEAST_DB[precision]
    inspection = target.inspect(artifact)
    metadata = inspection.metadata
    assert (metadata["input_size"], metadata["resize"]) == ("80x48", "80x48")
    assert card_from(metadata).preprocess.shape == SHAPE
    assert isinstance(check(session, metadata, inspection.qparams), SelfTest)
    with pytest.raises(DataError, match="80, 48"):
        session.run(np.ascontiguousarray(tall.transpose(0, 2, 1, 3)))
