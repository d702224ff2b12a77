"""Weights of a rewritten graph go back to where they came from, bit by bit."""

import numpy as np
import pytest
import torch
from calibrated_networks import PREPROCESS, calibrated_network, table_of

from rexnet_export.apps.train.distributed import World
from rexnet_export.apps.train.qat import QatTrainer
from rexnet_export.apps.train.recipe import FINE_TUNING
from rexnet_export.apps.train.refold import refolded
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.quantization.learned.fake_quant import FakeQuantNetwork
from rexnet_export.quantization.onnx.view import model_sha256, view
from rexnet_export.quantization.rewrites.chains import chains
from rexnet_export.quantization.rewrites.origins import origins, restored
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.table.rewrites import ChannelGrouping, ChannelScaling, Rewrite
from rexnet_export.quantization.table.table_file import parse_table

TINY = calibrated_network("v1")


def rewrites(seed: int = 0, times: float = 1.0) -> tuple[Rewrite, ...]:
    """Every chain rescaled by powers of two times a number, then a block and the head in groups."""
    rng, graph = np.random.default_rng(seed), view(TINY.model)
    scalings = tuple(
        ChannelScaling(tensor=chain.name, factors=tuple((times * 2.0 ** rng.integers(-4, 5, chain.channels)).tolist()))
        for chain in chains(graph)
    )
    groupings = []
    for name in ("features.4.expand", "penultimate"):
        count = len(graph.constants[f"{name}.bias"])
        order = tuple(rng.permutation(count).tolist())
        groupings.append(ChannelGrouping(tensor=name, order=order, sizes=(count // 3, count - count // 3)))
    return (*scalings, *groupings)


def test_weights_come_back_through_every_rewrite() -> None:
    chosen, rng = rewrites(), np.random.default_rng(1)
    found, before = origins(TINY.model, chosen), view(TINY.model).constants
    rewritten = view(apply(TINY.model, chosen)).constants
    same = restored(TINY.model, found, rewritten)
    assert all(np.array_equal(values, before[name]) for name, values in same.items())
    trained = {name: rng.normal(0, 1, rewritten[name].shape).astype(np.float32) for name in found}
    for name, origin in found.items():
        if origin.tensor.startswith("stem."):
            trained[name] = rewritten[name]
    network = refolded(TINY.network, restored(TINY.model, found, trained))
    after = view(apply(float_graph(network, PREPROCESS), chosen)).constants
    for name, values in trained.items():
        assert np.array_equal(after[name], values), name


def test_what_a_rewrite_adds_has_no_origin() -> None:
    gated = next(chain for chain in chains(view(TINY.model)) if chain.gates)
    scaling = ChannelScaling(tensor=gated.name, factors=(2.0,) * gated.channels)
    found = origins(TINY.model, (scaling,))
    rewritten = apply(TINY.model, (scaling,))
    parameters = {name for node in rewritten.graph.node if node.op_type in {"Conv", "Gemm"} for name in node.input[1:]}
    added = parameters - view(TINY.model).constants.keys()
    assert len(added) == 2 * len(gated.gates)
    assert found.keys() == parameters - added


def test_weights_come_back_through_any_factors() -> None:
    rng, graph = np.random.default_rng(0), view(TINY.model)
    chosen = tuple(
        ChannelScaling(tensor=chain.name, factors=tuple(rng.uniform(1e-3, 1e3, chain.channels).tolist()))
        for chain in chains(graph)
    )
    found = origins(TINY.model, chosen)
    rewritten = view(apply(TINY.model, chosen)).constants
    for name, values in restored(TINY.model, found, rewritten).items():
        np.testing.assert_allclose(values, graph.constants[name], rtol=1e-6, atol=0, err_msg=name)


def test_an_address_of_two_digits_comes_back() -> None:
    """Of more weights than one digit counts."""
    scaling = next(
        ChannelScaling(tensor=chain.name, factors=(0.1234567,) * chain.channels)
        for chain in chains(view(TINY.model))
        if any(view(TINY.model).constants[node.input[1]].size > 2**12 for node in chain.consumers)
    )
    for name, origin in origins(TINY.model, (scaling,)).items():
        assert np.array_equal(origin.index.ravel(), np.arange(origin.index.size)), name


class Images(list[int]):
    """As much of an image source as a trainer looks at before it reads images."""

    name = "images"
    ids = tuple("abcdefghijklmnop" * 4)
    labels = (0,) * 64
    class_names = None


@pytest.mark.parametrize("unrounded", [1.0, 0.7])
def test_a_rewritten_network_is_trained_and_stored(unrounded: float) -> None:
    chosen, source = rewrites(times=unrounded), Images(range(64))
    table = table_of(apply(TINY.model, chosen), TINY.images, chosen)
    here = World(rank=0, size=1, device=torch.device("cpu"))
    trainer = QatTrainer(TINY.network, table, FINE_TUNING, PREPROCESS, source, source, here, distil=0.5)  # type: ignore[arg-type]
    pixels, labels = torch.from_numpy(TINY.images), torch.arange(len(TINY.images)) % 10
    losses = [float(trainer._step(trainer.network, pixels, labels, 3e-4)) for _ in range(12)]
    assert losses[-1] < losses[0]
    finished = trainer.finished()
    stored = parse_table(finished.metadata["qparams"])
    assert stored.rewrites == chosen
    trained = apply(float_graph(finished.network, PREPROCESS), chosen)
    assert stored.model_sha256 == model_sha256(trained) != table.model_sha256
    with torch.no_grad():
        assert torch.equal(FakeQuantNetwork(trained, stored)(pixels), finished.measured(pixels))
