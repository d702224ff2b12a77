"""The float network is run once on the same pixels, and never mistaken for another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import tiny

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.machine.shared_work import SharedWork
from rexnet_export.pipeline.model.remembered import remembered
from rexnet_export.pipeline.model.torch_session import TorchSession, open_reference

PREPROCESS = Preprocess(size=32)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_the_same_pixels_are_run_once_and_others_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, ran = open_reference(tiny(), PREPROCESS, cuda=False), list[int]()
    expected, outputs = session.outputs(PIXELS), TorchSession.outputs

    def counted(self: TorchSession, images: np.ndarray) -> dict[str, np.ndarray]:
        ran.append(len(images))
        return outputs(self, images)

    monkeypatch.setattr(TorchSession, "outputs", counted)
    for _ in range(2):
        found = remembered(session, SharedWork(tmp_path, 2**30))
        np.testing.assert_array_equal(found.outputs(PIXELS)["logits"], expected["logits"])
        np.testing.assert_array_equal(found.run(PIXELS), expected["logits"])
        assert (found.executed_by, found.timed) == (session.executed_by, session.timed)
    assert ran == [3]
    work = SharedWork(tmp_path, 2**30)
    others = [
        (session, PIXELS[:2]),
        (session, PIXELS.astype(np.uint8) + np.uint8(1)),
        (open_reference(tiny(seed=1), PREPROCESS, cuda=False), PIXELS),
        (replace(session, preprocess=Preprocess(size=32, std=(1.0, 1.0, 1.0))), PIXELS),
    ]
    for other, pixels in others:
        np.testing.assert_array_equal(remembered(other, work).run(pixels), outputs(other, pixels)["logits"])
    assert ran == [3, 2, 3, 3, 3]


def test_another_number_of_threads_is_another_sum(tmp_path: Path) -> None:
    session, before = open_reference(tiny(), PREPROCESS, cuda=False), torch.get_num_threads()
    remembered(session, SharedWork(tmp_path, 2**30)).run(PIXELS)
    torch.set_num_threads(before + 1)
    try:
        remembered(session, SharedWork(tmp_path, 2**30)).run(PIXELS)
    finally:
        torch.set_num_threads(before)
    assert len(list(tmp_path.glob("*/*.entry"))) == 2


def test_without_a_place_to_share_it_is_the_session() -> None:
    session = open_reference(tiny(), PREPROCESS, cuda=False)
    assert remembered(session, None) is session
