from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from random_networks import random_network

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.machine.torch_threads import torch_threads
from rexnet_export.quantization.calibration.observe import TensorStatistics, observe
from rexnet_export.quantization.calibration.slopes import Slopes
from rexnet_export.quantization.learned import logit_slopes as subject
from rexnet_export.quantization.learned.logit_slopes import logit_slopes
from rexnet_export.quantization.onnx.partial_run import Walk
from rexnet_export.quantization.onnx.simulate import run
from rexnet_export.quantization.scheme.scheme import observed_tensors

SIZE = 32


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    model = float_graph(random_network("v1", 0.25), Preprocess(size=SIZE))
    images = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    path: Path = tmp_path_factory.mktemp("slopes") / "float.onnx"
    onnx.save(model, path)
    statistics = observe(path, [images], observed_tensors(model))
    return SimpleNamespace(model=model, images=images, statistics=statistics)


def noise(case: SimpleNamespace, name: str, least: float) -> float:
    """Mean squared error of the logits when independent errors of +-`least` are added to one tensor."""
    walk = Walk(case.model, case.images)
    walk.advance([node.output[0] for node in walk.model.graph.node].index(name) + 1)
    finish = walk.finish(walk.next_piece())
    reference, random, found = run(case.model, case.images).astype(np.float64), np.random.default_rng(1), []
    for _ in range(40):
        held = [
            group | {name: group[name] + random.choice(np.float32([-least, least]), group[name].shape)}
            for group in walk.held
        ]
        found.append(np.square(finish(held) - reference).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("name", ["stem", "features.4.expand.silu", "features.9.residual", "penultimate"])
def test_slopes_predict_the_noise_of_small_errors(
    case: SimpleNamespace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "PROBES", 24)
    found = logit_slopes(case.model, case.statistics, case.images)[name]
    least = 1e-3 * max(1.0, case.statistics[name].maximum)
    assert found.by_channel.sum() * least**2 == pytest.approx(noise(case, name, least), rel=0.2)
    assert found.by_value.sum() == pytest.approx(found.by_channel.sum(), rel=1e-6)


def test_the_logits_answer_to_themselves(case: SimpleNamespace) -> None:
    classes = case.statistics["logits"].channel_minima.size
    found = logit_slopes(case.model, case.statistics, case.images)["logits"]
    np.testing.assert_allclose(found.by_channel, 1 / classes, rtol=1e-6)


def test_every_observed_tensor_has_slopes_and_the_same_each_time(case: SimpleNamespace) -> None:
    first, second = (logit_slopes(case.model, case.statistics, case.images) for _ in range(2))
    assert first.keys() == case.statistics.keys()
    for name, found in first.items():
        np.testing.assert_array_equal(found.by_value, second[name].by_value)
        assert found.by_channel.shape == case.statistics[name].channel_minima.shape


def test_a_million_pixels_are_looked_at_twice_but_at_least_32_images(
    case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, passes = [], []
    own = torch.autograd.grad

    def within(images: np.ndarray, pixels: int, fewest: int) -> np.ndarray:
        asked.append((pixels, fewest))
        return images[:1]

    monkeypatch.setattr(subject, "within", within)
    monkeypatch.setattr(torch.autograd, "grad", lambda *given, **named: passes.append(1) or own(*given, **named))
    logit_slopes(case.model, case.statistics, case.images)
    assert asked == [(2**20, 32)]
    assert len(passes) == 2


def test_a_gradient_is_summed_when_it_is_made_and_then_let_go(
    case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All together would take as much memory as the activations, for each probe."""
    made: list[weakref.ref[np.ndarray]] = []
    alive, kept = [], []
    grad, summed = torch.autograd.grad, subject.summed

    def noted(values: np.ndarray, squared: np.ndarray, *given: Any) -> Slopes:  # noqa: ANN401
        made.append(weakref.ref(squared))
        alive.append(sum(each() is not None for each in made))
        return summed(values, squared, *given)

    def passed(*given: Any, **named: Any) -> tuple[torch.Tensor, ...]:  # noqa: ANN401
        kept.append(grad(*given, **named))
        return kept[-1]

    monkeypatch.setattr(subject, "summed", noted)
    monkeypatch.setattr(torch.autograd, "grad", passed)
    with torch_threads(1):
        logit_slopes(case.model, case.statistics, case.images)
    assert len(made) == 2 * len(case.statistics)
    assert set(alive) == {1}
    assert [[slope.shape for slope in slopes] for slopes in kept] == [[(8, 4, SIZE, SIZE)]] * 2  # of the input alone


def two_heads(path: Path) -> tuple[onnx.ModelProto, dict[str, TensorStatistics], np.ndarray]:
    """Means of the channels as logits, their squares as another head, and a map that neither head reads."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        two (uint8[n, 4, 4, 3] image) => (float[n, 3] means, float[n, 3] squares, float[n, 3, 4, 4] map)
        <float scale = {0.00390625}, uint8 zero = {0}>
        {
            planes = Transpose <perm = [0, 3, 1, 2]> (image)
            input = DequantizeLinear(planes, scale, zero)
            map = Sigmoid(input)
            pool = GlobalAveragePool(input)
            means = Flatten(pool)
            squares = Mul(means, means)
        }"""
    )
    path.write_bytes(model.SerializeToString())
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    return model, observe(path, [images], ["input", "map", "squares"]), images


def test_all_heads_count_in_one_unit_and_what_no_head_reads_not_at_all(tmp_path: Path) -> None:
    model, statistics, images = two_heads(tmp_path / "two.onnx")
    found = logit_slopes(model, statistics, images)
    assert found["map"].by_channel.tolist() == [0.0] * 3
    means = images.mean(axis=(1, 2)) / 256
    unit = np.sqrt((means**2).mean() / (means**4).mean())
    np.testing.assert_allclose(found["squares"].by_channel, [unit**2 / 6] * 3, rtol=1e-5)


def test_heads_are_made_as_large_as_the_logits() -> None:
    logits, large, dead = torch.tensor([[3.0, -4.0]]), torch.tensor([[30.0, 40.0]]), torch.zeros(1, 2)
    found = subject._alike([logits, large, dead])
    assert found.tolist() == [[3.0, -4.0, pytest.approx(3.0), pytest.approx(4.0), 0.0, 0.0]]


def test_images_are_taken_as_far_as_time_allows(case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MOST_PIXELS", 3 * SIZE * SIZE)
    monkeypatch.setattr(subject, "FEWEST_IMAGES", 1)
    few, three = (logit_slopes(case.model, case.statistics, images) for images in (case.images, case.images[:3]))
    np.testing.assert_array_equal(few["stem"].by_channel, three["stem"].by_channel)
