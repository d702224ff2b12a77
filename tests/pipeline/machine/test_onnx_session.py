"""How many images a session is given at once."""

import pytest

from rexnet_export.pipeline.machine.onnx_session import images_at_once


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [(32, 32, 8), (64, 64, 8), (64, 96, 5), (128, 128, 2), (160, 160, 1), (224, 224, 1), (1024, 1024, 1)],
)
def test_large_images_go_one_by_one(height: int, width: int, wanted: int) -> None:
    """The memory of a session, which keeps what its largest run took, does not grow with the image."""
    assert images_at_once(height, width) == wanted
