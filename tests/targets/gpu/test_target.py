"""The float reference: which precision a file really has, and which device runs it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import Precision, Reading, stored_file
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.model.torch_session import open_reference
from rexnet_export.targets.gpu import target as gpu
from rexnet_export.targets.gpu.target import Gpu

GPU = Gpu()

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]


@pytest.mark.parametrize(("asked", "given"), [("int8", "fp32"), ("fp32", "fp32"), ("fp16", "fp16")])
def test_the_artifact_says_its_real_precision(
    sources: Sources, tmp_path: Path, asked: Precision, given: Precision
) -> None:
    artifact = GPU.convert(sources[asked], tmp_path, f"tiny-{asked}")
    assert artifact.precision == given
    assert GPU.inspect(artifact).metadata["precision"] == given
    assert GPU.inspect(artifact).qparams == {}


def test_float32_file_gives_the_checkpoints_own_logits(
    network: ReXNet, sources: Sources, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    session = GPU.open(GPU.convert(sources["fp32"], tmp_path, "tiny"))
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (sources["fp32"].card.preprocess.mean, sources["fp32"].card.preprocess.std)
    )
    with torch.inference_mode():
        expected = network((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(session.run(images), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_of_several_networks_the_one_that_was_read_is_written(
    network: ReXNet, sources: Sources, tmp_path: Path
) -> None:
    """Averaged weights come first unless others are asked for: the file must not fall back to them."""
    state = network.state_dict()
    averaged = {name: torch.zeros_like(each) if name.startswith("head.") else each for name, each in state.items()}
    path = tmp_path / "several.pth"
    torch.save({"model": state, "model_ema": averaged}, path)
    source = replace(sources["fp32"], checkpoint=stored_file(path), reading=Reading(weights="model"))
    written = load_checkpoint(GPU.convert(source, tmp_path, "tiny").file.path).network
    assert torch.equal(written.head.fc.weight, network.head.fc.weight)


def test_a_rectangle_is_counted_as_one(sources: Sources, tmp_path: Path) -> None:
    macs = {}
    for size in (64, (64, 32)):
        card = replace(sources["fp32"].card, preprocess=replace(sources["fp32"].card.preprocess, size=size))
        artifact = GPU.convert(replace(sources["fp32"], card=card, golden=None), tmp_path, "tiny")
        macs[size] = GPU.inspect(artifact).coverage.total_macs
    assert 0.5 < macs[64, 32] / macs[64] < 0.515  # half the area; the classifier and the gates are what they were


def test_float16_file_is_half_the_size_and_close(
    sources: Sources, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    full = GPU.convert(sources["fp32"], tmp_path, "full")
    half = GPU.convert(sources["fp16"], tmp_path, "half")
    assert half.file.bytes < 0.55 * full.file.bytes
    expected = GPU.open(full).run(images)
    np.testing.assert_allclose(GPU.open(half).run(images), expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_without_a_gpu_the_processor_runs_it_and_is_named(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    session = GPU.open(GPU.convert(sources["fp16"], tmp_path, "tiny"))
    version = torch.__version__.partition("+")[0]
    assert session.executed_by.startswith(f"torch {version}")
    assert session.executed_by.endswith("on CPU")


def test_mixed_precision_needs_a_gpu(network: ReXNet, sources: Sources) -> None:
    session = open_reference(network, sources["fp32"].card.preprocess, half=True, cuda=False)
    assert (session.device.type, session.half) == ("cpu", None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_mixed_precision_stays_close(network: ReXNet, sources: Sources, images: Images) -> None:
    plain = open_reference(network, sources["fp32"].card.preprocess, cuda=False).run(images)
    session = open_reference(network, sources["fp32"].card.preprocess, half=True, cuda=True)
    assert torch.cuda.get_device_name() in session.executed_by
    np.testing.assert_allclose(session.run(images), plain, rtol=0, atol=0.02 * np.abs(plain).max())


def test_every_layer_counts_as_float(sources: Sources, tmp_path: Path) -> None:
    found = GPU.inspect(GPU.convert(sources["fp32"], tmp_path, "tiny")).coverage
    assert (found.int8_macs, found.int8_mac_fraction) == (0, 0.0)
    assert "features.3.se.fc1 (Conv2d)" in found.float_ops
    assert "head.fc (Linear)" in found.float_ops


def test_a_file_without_preprocessing_is_refused(network: ReXNet, sources: Sources, tmp_path: Path) -> None:
    artifact = GPU.convert(sources["fp32"], tmp_path, "tiny")
    bare = save_checkpoint(
        tmp_path / "bare.safetensors", network, labels=None, preprocess=None, metadata={}, half=False
    )
    with pytest.raises(CheckpointError, match="preprocessing"):
        GPU.open(replace(artifact, file=bare))
    assert stored_file(bare.path) == bare


def test_the_float_onnx_is_a_preset_where_onnx_runtime_has_cuda(
    sources: Sources, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = GPU.convert(sources["fp32"], tmp_path, "tiny")
    if gpu.has_cuda_provider():
        onnx_file = replace(here, file=here.presets["onnxruntime"])
        assert GPU.open(onnx_file).run(images).shape == (len(images), 10)
    else:
        assert here.presets == {}
    monkeypatch.setattr(gpu, "has_cuda_provider", lambda: True)
    there = GPU.convert(sources["fp32"], tmp_path, "tiny")
    assert there.presets == {"onnxruntime": sources["fp32"].float_onnx}
    preset = replace(there, file=there.presets["onnxruntime"])
    assert GPU.inspect(preset).coverage.int8_macs == 0
    assert card_from(GPU.inspect(preset).metadata) == sources["fp32"].card
