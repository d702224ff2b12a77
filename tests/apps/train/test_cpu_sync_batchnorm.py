"""Two processes over gloo train what one process does with the same global batch."""

import pytest
import torch
from depths import SHORT
from random_networks import random_network
from torch import multiprocessing, nn
from worlds import HELD_BACK, train

from rexnet_export.apps.train.cpu_sync_batchnorm import GlobalBatchNorm, synchronise


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    folder = tmp_path_factory.mktemp("worlds")
    threads = torch.get_num_threads()
    train(0, 1, folder)
    torch.set_num_threads(threads)
    multiprocessing.spawn(train, (2, folder), nprocs=2)
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


def test_two_processes_give_the_weights_of_one(trained: dict[str, dict[str, object]]) -> None:
    for part in ("network", "averaged"):
        alone, first, second = (trained[name][part] for name in ("1-0", "2-0", "2-1"))
        assert isinstance(alone, dict)
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        begun = random_network("v1", 0.25, stages=SHORT).double().state_dict()
        moved = [name for name in alone if not torch.equal(alone[name], begun[name])]
        assert len(moved) > 0.9 * len(alone)
        for name, wanted in alone.items():
            assert torch.equal(first[name], second[name]), name
            torch.testing.assert_close(first[name], wanted, rtol=1e-7, atol=1e-9, msg=f"{name} is not what one trains")


def test_accuracy_and_loss_are_of_all_images(trained: dict[str, dict[str, object]]) -> None:
    alone, first, second = (trained[name]["results"] for name in ("1-0", "2-0", "2-1"))
    assert isinstance(alone, list)
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert [top1 for _, top1 in first] == [top1 for _, top1 in alone] == [top1 for _, top1 in second]
    for results in (first, second):
        assert [loss for loss, _ in results] == pytest.approx([loss for loss, _ in alone], rel=1e-6)
    assert all((top1 * HELD_BACK) == pytest.approx(round(top1 * HELD_BACK)) for _, top1 in alone)


def test_outside_training_it_is_batchnorm() -> None:
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.running_mean)
    x = torch.randn(2, 3, 4, 4)
    expected = norm.eval()(x)
    synchronise(norm)
    assert isinstance(norm, GlobalBatchNorm)
    assert torch.equal(norm(x), expected)
