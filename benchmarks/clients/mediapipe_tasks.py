"""MediaPipe's ImageClassifier with a threshold of 0.5: `python mediapipe_tasks.py MODEL IMAGES.npy OUT.npz`.

It gives the scores of the first head; `passed` is how many classes reach the threshold.
"""

import mediapipe
import numpy as np
from first_head import answer
from mediapipe.tasks.python import BaseOptions, vision


def classify(model: str, images: np.ndarray, threshold: float | None) -> list[list]:
    """The categories of each image's first head."""
    options = vision.ImageClassifierOptions(
        base_options=BaseOptions(model_asset_path=model),
        **({} if threshold is None else {"score_threshold": threshold}),
    )
    with vision.ImageClassifier.create_from_options(options) as classifier:
        pictures = [mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels) for pixels in images]
        return [classifier.classify(picture).classifications[0].categories for picture in pictures]


if __name__ == "__main__":
    answer(classify, f"MediaPipe {mediapipe.__version__}")
