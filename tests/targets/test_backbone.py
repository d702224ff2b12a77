"""A network without its head on every target: each output is the torch backbone's, in float and in INT8."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.paired_statistics import sqnr_db
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.self_test import SelfTest, check
from rexnet_export.pipeline.artifact.target import Source, Target
from rexnet_export.pipeline.core.records import Artifact, Feature, ModelCard, Precision, Preprocess, stored_file
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.graph.outputs import cut
from rexnet_export.pipeline.model.backbone import Backbone, features
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.table import Calibration
from rexnet_export.targets import TARGETS

PREPROCESS = Preprocess(size=32, crop_ratio=1.0, interpolation="bilinear", mean=(0.5, 0.4, 0.3))  # the sources' own
CASES = [(name, p) for name in ("coreml", "tflite", "ort", "openvino") for p in TARGETS[name].precisions]
LEAST_DB: Mapping[Precision, float] = {"fp32": 95.0, "fp16": 30.0, "int8": 3.0, "w8": 10.0, "w4": 0.0}
FINEST_DB = 20.0  # rounding adds up from block to block, so that the random network says little of its last output


@dataclass(frozen=True, kw_only=True)
class Converted:
    target: Target
    artifact: Artifact
    source: Source


@pytest.fixture(scope="module")
def sources(
    network: ReXNet,
    plain_sources: Mapping[Precision, Source],
    images: NDArray[np.uint8],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[Precision, Source]:
    folder, outputs = tmp_path_factory.mktemp("backbone"), features(network.spec)
    model = cut(float_graph(network, PREPROCESS), outputs)
    onnx.save(model, folder / "float.onnx")
    calibration = Calibration(images_sha256="0" * 64, images=len(images), statistic="min-max", seed=0)
    table = decide(model, observe(folder / "float.onnx", [images], observed_tensors(model)), calibration)
    onnx.save(insert_qdq(model, table, "int8"), folder / "qdq.onnx")
    plain = plain_sources["fp32"]
    card = ModelCard(**vars(plain.card) | {"labels": (), "name": "rexnet_050_features", "features": outputs})
    full = replace(plain, card=card, float_onnx=stored_file(folder / "float.onnx"))
    integer = replace(full, precision="int8", table=table, qdq_onnx=stored_file(folder / "qdq.onnx"))
    others: tuple[Precision, ...] = ("fp16", "w8", "w4")
    return {"fp32": full, "int8": integer} | {each: replace(full, precision=each) for each in others}


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def converted(
    request: pytest.FixtureRequest, sources: Mapping[Precision, Source], tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    name, precision = request.param
    folder = tmp_path_factory.mktemp("artifact")
    artifact = TARGETS[name].convert(sources[precision], folder, f"small-{precision}")
    return Converted(target=TARGETS[name], artifact=artifact, source=sources[precision])


@pytest.fixture(scope="module")
def wanted(network: ReXNet, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))
    backbone = Backbone(network).eval()
    with torch.inference_mode():
        found = backbone((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std)
    return {feature.name: values.numpy() for feature, values in zip(backbone.outputs, found, strict=True)}


def test_every_output_of_every_file_is_the_backbones(
    converted: Converted, images: NDArray[np.uint8], wanted: dict[str, NDArray[np.float32]]
) -> None:
    artifact = converted.artifact
    for file in (artifact.file, *artifact.presets.values()):
        session = converted.target.open(replace(artifact, file=file))
        found = session.outputs(images)
        assert list(found) == list(wanted)
        for name, values in wanted.items():
            assert (found[name].dtype, found[name].shape) == (np.float32, values.shape)
            assert sqnr_db(values, found[name]) > LEAST_DB[artifact.precision], name
        finest = next(iter(wanted))
        assert sqnr_db(wanted[finest], found[finest]) > (15.0 if artifact.precision == "w4" else FINEST_DB)
        one = session.outputs(images[3:4])
        for name, values in wanted.items():
            np.testing.assert_allclose(one[name], found[name][3:4], rtol=0, atol=0.05 * np.abs(values).max())
        means = np.concatenate([values.mean((2, 3)) for values in one.values()], axis=1)
        np.testing.assert_array_equal(session.run(images[3:4]), means)


def test_a_trace_has_the_outputs_as_they_leave(converted: Converted, images: NDArray[np.uint8]) -> None:
    session = converted.target.open(converted.artifact)
    found, traced = session.outputs(images[:1]), session.trace(images[:1])
    for name, values in found.items():
        np.testing.assert_allclose(traced[name], values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_integers_are_the_tables_and_nothing_else_is_computed(converted: Converted) -> None:
    if converted.artifact.precision != "int8":
        pytest.skip("not INT8")
    table = converted.source.table
    assert table
    wanted = {name: entry.params for name, entry in table.tensors.items() if entry.params is not None}
    stored = converted.target.inspect(converted.artifact).qparams
    assert stored == {name: wanted[name] for name in stored}
    assert {feature.name for feature in outputs_of(converted)} <= stored.keys()
    coverage = converted.target.inspect(converted.artifact).coverage
    assert coverage.int8_mac_fraction == 1
    assert coverage.float_ops == ()


def test_a_file_says_what_it_gives_and_repeats_it(converted: Converted) -> None:
    metadata = converted.target.inspect(converted.artifact).metadata
    assert card_from(metadata) == converted.source.card
    found = check(
        converted.target.open(converted.artifact), metadata, converted.target.inspect(converted.artifact).qparams
    )
    assert isinstance(found, SelfTest)
    assert found.passed
    assert converted.target.inspect(converted.artifact).altered == []


def outputs_of(converted: Converted) -> tuple[Feature, ...]:
    return converted.source.card.features
