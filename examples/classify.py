"""Classify photos with an exported file, without rexnet-export: LiteRT or ONNX Runtime, numpy and Pillow are enough.

    python classify.py rexnet_100-int8.tflite photo.jpg ...     # pip install ai-edge-litert numpy pillow
    python classify.py rexnet_100-int8.ort photo.jpg ...        # pip install onnxruntime numpy pillow

Labels, input size and how a photo is resized are read from the file. Normalisation is inside it: it takes bytes. The
resize is not inside, and must be done as the network was trained; this is how.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

TOP = 5


def prepare(image: Image.Image, about: dict[str, str]) -> np.ndarray:
    """A photo as the file takes it: uint8 [1, height, width, 3], RGB."""
    height, width = sides(about["input_size"])
    down, across = sides(about["resize"])
    mode = about.get("crop_mode", "center")
    image = image.convert("RGB")
    if mode == "squash":
        size = (across, down)
    elif mode == "center" and across == down:
        long = int(across * max(image.size) / min(image.size))
        size = (across, long) if image.width <= image.height else (long, across)
    else:
        ratio = (max if mode == "border" else min)(image.height / down, image.width / across)
        size = (round(image.width / ratio), round(image.height / ratio))
    if size != image.size:
        image = image.resize(size, Image.Resampling[about["interpolation"].upper()])
    right, below = max(0, width - image.width), max(0, height - image.height)
    if mode == "border" and (right or below):
        mean = tuple(min(255, max(0, round(255 * value))) for value in json.loads(about["mean"]))
        around = (right // 2, below // 2, right - right // 2, below - below // 2)
        image = ImageOps.expand(image, around, mean)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))[None]


def sides(text: str) -> tuple[int, int]:
    """`224`, or `160x80` for a height and a width."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def open_tflite(path: Path) -> tuple[dict[str, str], Callable[[np.ndarray], np.ndarray]]:
    """What a `.tflite` says of itself, and a function from pixels to the probability of each class."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(path.read_bytes())
    entries = (model.Metadata(index) for index in range(model.MetadataLength()))
    ours = next(entry for entry in entries if entry.Name() == b"rexnet_export")
    about = json.loads(model.Buffers(ours.Buffer()).DataAsNumpy().tobytes())
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]["index"]
    outputs = {output["name"]: output["index"] for output in interpreter.get_output_details()}

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["probabilities"])[0]

    return about, run


def open_ort(path: Path) -> tuple[dict[str, str], Callable[[np.ndarray], np.ndarray]]:
    """The same of a `.ort` or `.onnx`."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # INT8 weights are exact without VNNI, too
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    about = dict(session.get_modelmeta().custom_metadata_map)
    return about, lambda pixels: session.run(["probabilities"], {"image": pixels})[0][0]


def main() -> None:
    """Print the best classes of every photo, with their probabilities."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    file = Path(sys.argv[1])
    about, run = (open_tflite if file.suffix == ".tflite" else open_ort)(file)
    labels = json.loads(about["labels"])
    for photo in sys.argv[2:]:
        with Image.open(photo) as image:
            probabilities = run(prepare(image, about))
        best = probabilities.argsort()[::-1][:TOP]
        print(photo, ", ".join(f"{labels[index]} {probabilities[index]:.1%}" for index in best))


if __name__ == "__main__":
    main()
