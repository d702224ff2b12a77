"""What a file declares, and what the network behind it gives."""

import numpy as np
import pytest

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import alike, are_outputs, declared, network_outputs

LOGITS = np.array([[2.0, -1.0, 0.5], [90.0, 0.0, -30.0]], np.float32)
WEIGHTS = np.exp(LOGITS.astype(np.float64))
PROBABILITIES = (WEIGHTS / WEIGHTS.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (["logits"], True),
        (["probabilities"], True),
        (["probabilities", "logits"], True),
        (["features.0", "features.1"], True),
        (["probabilities", "head.age"], True),
        (["head.age"], False),
        (["logits", "features.0"], False),
        (["scores"], False),
        ([], False),
    ],
)
def test_files_give_scores_or_features(names: list[str], *, allowed: bool) -> None:
    assert are_outputs(names) is allowed


def test_what_each_choice_declares() -> None:
    assert declared(["logits"], "logits") == ("logits",)
    assert declared(["logits"], "probabilities") == ("probabilities",)
    assert declared(["logits", "head.age"], "both") == ("logits", "probabilities", "head.age")


def test_probabilities_beside_logits_are_checked_and_left_out() -> None:
    found = network_outputs({"probabilities": PROBABILITIES, "logits": LOGITS})
    assert list(found) == ["logits"]
    assert found["logits"] is LOGITS


@pytest.mark.parametrize("wrong", [PROBABILITIES + np.float32(3e-5), np.full_like(PROBABILITIES, np.nan), LOGITS])
def test_what_is_not_the_softmax_is_refused(wrong: np.typing.NDArray[np.float32]) -> None:
    with pytest.raises(ConversionError, match="from the softmax of the logits"):
        network_outputs({"probabilities": wrong, "logits": LOGITS})


def test_probabilities_alone_become_logits_but_for_a_number_per_image() -> None:
    found = network_outputs({"probabilities": PROBABILITIES})
    assert list(found) == ["log_probabilities"]
    values = found["log_probabilities"]
    assert np.isfinite(values).all()  # float32 has no exp(-120): the second image's last class is zero
    np.testing.assert_allclose(values[0] - values[0, 0], LOGITS[0] - LOGITS[0, 0], atol=1e-5)
    np.testing.assert_allclose(alike({"logits": LOGITS}, found)["log_probabilities"], values, atol=1e-5)


def test_a_reference_stays_what_it_is_beside_logits() -> None:
    reference = {"logits": LOGITS}
    assert alike(reference, {"logits": LOGITS + 1}) is reference
