"""Android's Task Library in Python, with a threshold of 0.5: `python task_library.py MODEL IMAGES.npy OUT.npz`."""

from importlib.metadata import version

import numpy as np
from first_head import answer
from tflite_support.task import core, processor, vision


def classify(model: str, images: np.ndarray, threshold: float | None) -> list[list]:
    """The categories of each image's first head."""
    options = vision.ImageClassifierOptions(
        base_options=core.BaseOptions(file_name=model),
        classification_options=processor.ClassificationOptions(
            **({} if threshold is None else {"score_threshold": threshold})
        ),
    )
    classifier = vision.ImageClassifier.create_from_options(options)
    pictures = [vision.TensorImage.create_from_array(pixels) for pixels in images]
    return [classifier.classify(picture).classifications[0].categories for picture in pictures]


if __name__ == "__main__":
    answer(classify, f"Task Library {version('tflite-support')}")
