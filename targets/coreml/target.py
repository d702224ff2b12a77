"""Core ML: an ML program for iOS 17, built on any system; executed by Core ML on macOS, interpreted elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from rexnet_export.pipeline.artifact.fingerprints import damaged
from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.self_test import carried
from rexnet_export.pipeline.artifact.target import OutputSession, Source, described, require_int8
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.outputs import answer
from rexnet_export.pipeline.core.records import (
    PRECISIONS,
    RGB,
    Artifact,
    Precision,
    StoredFile,
    stored_file,
)
from rexnet_export.targets.coreml.builder import IMAGE, LOGITS, PIXEL_SCALE, PROBABILITIES, mil_name, onnx_name
from rexnet_export.targets.coreml.check import check
from rexnet_export.targets.coreml.compress import FORMS
from rexnet_export.targets.coreml.inspect import (
    class_labels,
    compressed_since,
    count_arithmetic,
    real_outputs,
    stored_parameters,
    stored_qparams,
    structure,
)
from rexnet_export.targets.coreml.lower import lower
from rexnet_export.targets.coreml.package import Package, quiet, read_altered, read_package, require_intact, seal

if TYPE_CHECKING:
    from coremltools.models import MLModel
    from coremltools.proto.Model_pb2 import Model


class CoreML:
    """INT8 (weights and activations), float16 or float32, or float16 on INT8 or 4-bit weights, in an `.mlpackage`."""

    name = "coreml"
    precisions: tuple[Precision, ...] = PRECISIONS
    suffixes = (".mlpackage",)

    def require(self) -> None:
        """Core ML packages are written by coremltools, and executed by torch where Core ML is not."""
        require_module("coremltools", "Core ML")
        if sys.platform != "darwin":
            require_module("torch", "executing Core ML packages here")

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        """Write `folder/stem.mlpackage`, read it back, and compare it with what it should be."""
        self.require()
        model = onnx.load(_graph(source).path)
        path = folder / f"{stem}.mlpackage"
        with quiet():
            try:
                spec = _save(model, source, path)
            except ConversionError:
                raise
            except Exception as error:  # coremltools has no exception type of its own
                reason = str(error).partition("\n")[0]
                raise ConversionError(f"coremltools could not convert {source.card.name}: {reason}") from error
        _describe(spec, source)
        seal(path, spec)
        package = read_package(path)
        artifact = Artifact(target=self.name, precision=source.precision, file=stored_file(path))
        require_int8(artifact, count_arithmetic(package), source.float_tensors)
        check(package, model, source, _specification(source))
        proof = carried(source, lambda: _session(package), stored_qparams(package), stored_parameters(package))
        spec.description.metadata.userDefined.update(proof)
        seal(path, spec)
        return replace(artifact, file=stored_file(path))

    def open(self, artifact: Artifact, *, threads: int | None = None) -> OutputSession:  # noqa: ARG002 - Core ML's choice
        """Core ML on macOS; elsewhere the reference interpreter executes the saved program."""
        self.require()
        return _session(_intact(artifact.file))

    def preload(self) -> None:
        """What working on packages imports, without the frameworks that coremltools converts from."""
        from rexnet_export.targets.coreml.toolchain import import_alone  # noqa: PLC0415

        import_alone()
        from rexnet_export.targets.coreml import interpreter  # noqa: F401, PLC0415 - after: it imports torch

    def inspect(self, artifact: Artifact) -> Inspection:
        """The saved program; `altered` also where the manifest no longer fits."""
        file = artifact.file
        package = cache(lambda: _intact(file))
        return Inspection(
            metadata=lambda: _described(package()),
            declared=lambda: [output.name for output in package().spec.description.output],
            coverage=lambda: count_arithmetic(package()),
            structure=lambda: structure(package()),
            qparams=lambda: stored_qparams(package()),
            parameters=lambda: stored_parameters(package()),
            altered=lambda: _altered(_read(file)),
            compressed=lambda: compressed_since(package()),
        )


_IN_USE: WeakValueDictionary[StoredFile, Package] = WeakValueDictionary()


def _intact(file: StoredFile) -> Package:
    """The package, whose manifest must fit its content."""
    require_intact(file.path)
    return _read(file)


def _read(file: StoredFile) -> Package:
    """The package; half a second once, for all who ask while one of them still has it."""
    package = _IN_USE.get(file)
    if package is None:
        package = _IN_USE[file] = read_altered(file.path)
    return package


def _described(package: Package) -> dict[str, str]:
    """What the package says of itself; its classifier must have the labels that are said."""
    metadata = dict(package.metadata)
    card = card_from(metadata)
    if list(class_labels(package)) != _distinct(card.labels):
        raise ConversionError(f"{package.path}: its classifier has other labels than it says; export it again")
    return metadata


@dataclass(frozen=True, kw_only=True)
class _CoreMLSession:
    model: MLModel
    names: tuple[str, ...]
    executed_by: str = "Core ML"
    timed: bool = True

    @classmethod
    def load(cls, package: Package) -> _CoreMLSession:
        with quiet():
            import coremltools  # noqa: PLC0415

            model = coremltools.models.MLModel(str(package.path))
        return cls(model=model, names=real_outputs(package))

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]; Core ML takes one image at a time."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> the declared outputs, float32 [N, classes] or [N, C, H, W]."""
        found = [self.model.predict({IMAGE: _given(image)}) for image in images]
        return {onnx_name(n): np.concatenate([each[n] for each in found], dtype=np.float32) for n in self.names}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The outputs: Core ML shows no tensor that is not declared one."""
        return self.outputs(images)


def _given(image: NDArray[np.uint8]) -> Image.Image | NDArray[np.float32]:
    """uint8 [H, W, C] as Core ML takes it."""
    if image.shape[2] == RGB:
        return Image.fromarray(image)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def _altered(package: Package) -> list[str]:
    return damaged(package.metadata, stored_qparams(package), stored_parameters(package))


def _session(package: Package) -> OutputSession:
    if sys.platform == "darwin":
        return _CoreMLSession.load(package)
    from rexnet_export.targets.coreml.interpreter import MilSession  # noqa: PLC0415 - torch takes seconds to import

    return MilSession(package)


def _graph(source: Source) -> StoredFile:
    if source.precision != "int8":
        return source.float_onnx
    if source.qdq_onnx is None or source.table is None:
        raise ConversionError("Core ML INT8 is converted from the quantization table and its QDQ graph; none was given")
    return source.qdq_onnx


def _save(model: onnx.ModelProto, source: Source, path: Path) -> Model:
    """Convert and save; returns the specification. A backbone is no classifier.

    No optimization pass runs on the program: coremltools' own quantization passes fold zero points and rescale
    additions, so the file would no longer hold the table.
    """
    import coremltools as ct  # noqa: PLC0415

    channels = source.card.preprocess.channels
    shape = (1, channels, *source.card.preprocess.shape)
    classifies = bool(source.card.labels)
    weights = FORMS.get(source.precision, "real")
    program = lower(model, half=source.precision != "fp32", classifies=classifies, weights=weights)
    converted = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[
            ct.ImageType(name=IMAGE, shape=shape, scale=PIXEL_SCALE, color_layout=ct.colorlayout.RGB)
            if channels == RGB
            else ct.TensorType(name=IMAGE, shape=shape, dtype=np.float32)  # Core ML's images are colours or greys
        ],
        classifier_config=ct.ClassifierConfig(
            _distinct(source.card.labels), predicted_probabilities_output=PROBABILITIES
        )
        if classifies
        else None,
        # The program already computes in its own types; FLOAT32 only keeps coremltools from casting again.
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target(_specification(source)),
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
        package_dir=str(path),
    )
    return converted.get_spec()


def _specification(source: Source) -> int:
    """The oldest version whose programs hold what the file needs: palettes of groups came with iOS 18."""
    return 9 if FORMS.get(source.precision) == "palettes" else 8


def _distinct(labels: tuple[str, ...]) -> list[str]:
    """Core ML's probabilities are a dictionary by label, so a label used twice gets its class index."""
    uses = Counter(labels)
    return [label if uses[label] == 1 else f"{label} ({index})" for index, label in enumerate(labels)]


def _describe(spec: Model, source: Source) -> None:
    card, description = source.card, spec.description
    metadata = description.metadata
    metadata.userDefined.clear()  # coremltools' conversion date would make every file differ
    metadata.userDefined.update(described(source))
    metadata.shortDescription = metadata.userDefined["description"]
    metadata.versionString = metadata.userDefined["version"]
    metadata.author = metadata.userDefined["author"]
    metadata.license = metadata.userDefined["license"]
    (height, width), channels = card.preprocess.shape, card.preprocess.channels
    kind = f"RGB image, {width} x {height}" if channels == RGB else f"[1, {channels}, {height}, {width}], 0 to 255"
    texts = {
        IMAGE: f"{kind}; normalisation is inside the model.",
        LOGITS: "Logits [1, classes], in the order of the labels.",
        description.predictedFeatureName: "Most likely label.",
        description.predictedProbabilitiesName: "Probability of each label.",
        **{mil_name(head.name): f"A further head [1, {head.numbers}]." for head in card.heads},
    }
    if card.features:
        texts |= {mil_name(f.name): f"Features [1, {f.channels}, H, W] at stride {f.stride}." for f in card.features}
    elif card.numbers:
        texts[LOGITS] = f"Numbers [1, {card.numbers}]."
    for feature in (*description.input, *description.output):
        feature.shortDescription = texts[feature.name]
