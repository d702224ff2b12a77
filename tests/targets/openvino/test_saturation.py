"""Processors whose INT8 instructions lose sums: found out, and never believed."""

from dataclasses import replace

import numpy as np
import pytest
from graphs import signal_to_noise
from numpy.typing import NDArray
from shared import ArtifactOf
from vnni import processor_loses_sums

from rexnet_export.targets.openvino import session as module
from rexnet_export.targets.openvino.saturation import saturates
from rexnet_export.targets.openvino.session import OpenvinoSession, open_session

type Images = NDArray[np.uint8]


@pytest.fixture
def opened(artifact_of: ArtifactOf, monkeypatch: pytest.MonkeyPatch) -> OpenvinoSession:
    """As on a processor that saturates."""
    monkeypatch.setattr(module, "saturates", lambda: True)
    return open_session(artifact_of("openvino", "int8", "plain").file.path)


def test_what_is_found_is_what_the_processor_has() -> None:
    assert saturates() is processor_loses_sums()


def test_a_file_is_then_computed_on_its_grids_in_float(opened: OpenvinoSession, images: Images) -> None:
    assert set(replace(opened, in_float=False).products().values()) == {"f32"}  # what was compiled, as it stands
    assert not opened.timed
    assert "in float" in opened.executed_by
    assert len(opened.products()) == 28
    traced = opened.trace(images[:2])
    np.testing.assert_array_equal(traced["logits"], opened.run(images[:2]))


def test_the_numbers_are_those_of_a_processor_that_does_not(
    opened: OpenvinoSession, artifact_of: ArtifactOf, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    if saturates():
        pytest.skip("this processor saturates")
    monkeypatch.setattr(module, "saturates", lambda: False)
    own = open_session(artifact_of("openvino", "int8", "plain").file.path)
    assert signal_to_noise(own.run(images), opened.run(images)) > 20  # but for integers that fall on halves


def test_files_without_integers_are_asked_for_nothing(artifact_of: ArtifactOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "saturates", lambda: True)
    assert open_session(artifact_of("openvino", "fp32", "plain").file.path).timed
