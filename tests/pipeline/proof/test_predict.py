"""Answers are one a class, or the file is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.pipeline.proof.predict import Prediction, predict

CARD = ModelCard(
    name="tiny", labels=("cat", "dog"), preprocess=Preprocess(size=8, crop_ratio=1.0), checkpoint_sha256="0" * 64
)


def answering(logits: list[float]) -> Any:  # noqa: ANN401 - as much of a file as is asked for
    """A file of two classes that gives every photo these logits."""

    def outputs(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {"logits": np.tile(np.array(logits, np.float32), (len(images), 1))}

    return SimpleNamespace(
        path=Path("tiny.ort"),
        inspect=lambda: SimpleNamespace(metadata=describe(CARD, precision="fp32")),
        outputs=outputs,
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(path := tmp_path / "photo.png")
    return path


def test_each_class_has_an_answer(photo: Path) -> None:
    (answer,) = predict(answering([0.0, np.log(3)]), [photo], 5, Silent())
    assert isinstance(answer, Prediction)
    assert [(guess.label, round(guess.probability, 6)) for guess in answer.guesses] == [("dog", 0.75), ("cat", 0.25)]


@pytest.mark.parametrize("logits", [[1.0], [1.0, 2.0, 3.0]])
def test_another_number_of_answers_than_labels_is_refused(photo: Path, logits: list[float]) -> None:
    with pytest.raises(ConversionError, match=rf"gives {{'logits': 2}} and answers logits \[{len(logits)}\]"):
        list(predict(answering(logits), [photo], 5, Silent()))
