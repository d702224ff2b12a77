"""Looking at a file without believing it: artifacts in a process of their own, checkpoints without unpickling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ConfigDict

from rexnet_export.apps.bench.runner.archive import PLAN_FILE, open_archive
from rexnet_export.apps.bench.runner.failure import RunnerError
from rexnet_export.apps.export.info.info_json import BundledFileJson, BundleJson, FileJson, InfoJson, NetworkJson
from rexnet_export.pipeline.artifact.export_folder import PACKAGES, find_release, require_vouched, stored
from rexnet_export.pipeline.artifact.metadata import DIGESTS, PROCESSOR, card_from, danger
from rexnet_export.pipeline.core.errors import (
    CheckpointError,
    ConversionError,
    DataError,
    ExportError,
    TargetUnavailable,
    UsageError,
)
from rexnet_export.pipeline.core.extras import require_module
from rexnet_export.pipeline.core.files import BACKBONE_FILE, MANIFEST_FILE, PLAIN_GRAPH, REPORT_FILE
from rexnet_export.pipeline.core.json_record import JsonRecord
from rexnet_export.pipeline.core.outputs import HEAD, LOGITS
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, Reading
from rexnet_export.pipeline.core.untrusted import require_untrusted
from rexnet_export.targets import SUFFIXES
from rexnet_export.targets.isolation.isolated_file import IsolatedFile, target_of

BUNDLE, RECORDS = ".zip", (".json", ".jsonl", ".csv", ".html")
PREDICTIONS = "predictions.npz"
MOST_BUNDLE_BYTES = 4 * 2**30
CHECKPOINT, GRAPH = ".safetensors", ".onnx"  # a training run's files end so, too
OF_AN_ARTIFACT = NotMeasured(reason="an artifact says its model's name alone")
OF_A_CHECKPOINT = NotMeasured(reason="a checkpoint is float")


def about(reference: str) -> InfoJson:
    """What a file, a folder or a checkpoint on the hub is; raises what a reader of its kind raises."""
    if not reference:
        raise UsageError("FILE is empty; name a checkpoint, an artifact, a bundle or an export folder")
    path = Path(reference)
    if (path.suffix in RECORDS or path.name == PREDICTIONS) and path.is_file():
        how = (
            ""
            if path.name == PREDICTIONS
            else f"open it in {'a browser' if path.suffix == '.html' else 'an editor'}, or "
        )
        raise UsageError(f"{path} is a record, no network; {how}ask about the folder that it is in")
    if path.suffix == BUNDLE:
        return InfoJson(path=reference, files=(), unread={}, broken={}, bundle=_bundle(path))
    if path.is_dir() and any((path / name).exists() for name in (REPORT_FILE, BACKBONE_FILE)):
        return _folder(path)
    is_artifact = path.suffix in SUFFIXES and (path.suffix in PACKAGES or path.is_file())
    file = _artifact_or_weights(path) if is_artifact else _checkpoint(reference)
    file = file.model_copy(update={"notes": (*file.notes, *_unvouched(path))})
    return InfoJson(path=reference, files=(file,), unread={}, broken={}, bundle=None)


def _unvouched(path: Path) -> Iterator[str]:
    """That a manifest beside the file speaks of another content: no more than a hint, as nothing is proven here."""
    if path.is_file() or path.suffix in PACKAGES:
        try:
            require_vouched(path)
        except ConversionError:
            yield f"not what {MANIFEST_FILE} beside it says; verify shows more"


def _folder(path: Path) -> InfoJson:
    """Every artifact that can be read with what is installed here; one that is broken costs no other."""
    files, unread, broken = [], {}, {}
    for artifact in find_release((path,), SUFFIXES).artifacts:
        try:
            require_vouched(artifact)
            files.append(_artifact_or_weights(artifact))
        except TargetUnavailable as error:
            unread[artifact.name] = str(error)
        except ExportError as error:
            broken[artifact.name] = str(error)
    return InfoJson(path=str(path), files=tuple(files), unread=unread, broken=broken, bundle=None)


def _artifact_or_weights(path: Path) -> FileJson:
    """By its name an artifact; weights are read as a checkpoint, and so is a graph that nobody here wrote."""
    if path.suffix == CHECKPOINT:
        return _checkpoint(str(path))
    with IsolatedFile(path) as file:
        inspection = file.inspect()
        try:
            metadata = inspection.metadata
        except ConversionError as error:
            return _graph_of_others(path, error)
        if path.suffix == GRAPH and "model" not in metadata:
            return _checkpoint(str(path))
        card, known = card_from(metadata), stored(path)
        try:
            coverage = inspection.coverage
        except ConversionError as error:
            share: Measurement[float] = NotMeasured(reason=str(error))
            float_ops: Measurement[tuple[str, ...]] = NotMeasured(reason=str(error))
        else:
            share, float_ops = coverage.int8_mac_fraction, coverage.float_ops
        return FileJson(
            file=path.name,
            kind="artifact",
            format=target_of(path),
            bytes=known.bytes,
            sha256=known.sha256,
            model=card.name,
            network=OF_AN_ARTIFACT,
            precision=metadata["precision"],
            classes=len(card.labels),
            labels=card.labels,
            outputs=inspection.declared,
            preprocess=card.preprocess,
            preprocess_source=dict(card.preprocess_source),
            made_from=_made_from(metadata),
            int8_mac_fraction=share,
            float_ops=float_ops,
            notes=tuple(_wants(metadata)),
        )


def _graph_of_others(path: Path, error: ConversionError) -> FileJson:
    """A graph that is no artifact may be a checkpoint; where it is neither, `error` says what is wrong."""
    if path.suffix != GRAPH:
        raise error
    try:
        return _checkpoint(str(path))
    except CheckpointError:
        if path.name.endswith(PLAIN_GRAPH):
            whole = f"{path.name.removesuffix(PLAIN_GRAPH)}-float.onnx"
            raise UsageError(
                f"{path} is by its name the plain form of the float graph, of normalised pixels (NCHW) for other "
                f"converters, which is not described here; ask about {whole} beside it"
            ) from None
        raise error from None


def _wants(metadata: Mapping[str, str]) -> Iterator[str]:
    """What the processor has to have, and that the file is wrong without an error where it has not."""
    if processor := metadata.get(PROCESSOR):
        yield f"for a processor with {processor}: {danger(processor)}"


def _made_from(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: metadata[key] for key in ("generator", "checkpoint_sha256", *DIGESTS) if metadata.get(key)}


def _checkpoint(reference: str) -> FileJson:
    require_module("torch", f"reading {reference}")
    from rexnet_export.pipeline.checkpoint.load import load  # noqa: PLC0415 - torch, which no artifact needs
    from rexnet_export.pipeline.checkpoint.metadata import QPARAMS_KEY  # noqa: PLC0415 - the same

    loaded = load(reference, Reading(headless=True))
    spec, stated = loaded.network.spec, loaded.stated
    parameters = sum(parameter.numel() for parameter in loaded.network.parameters())
    carried = ("it carries the quantization table it was trained with",) if QPARAMS_KEY in loaded.metadata else ()
    return FileJson(
        file=loaded.file.path.name,
        kind="checkpoint",
        format=loaded.metadata["keys"],
        bytes=loaded.file.bytes,
        sha256=loaded.file.sha256,
        model=spec.name,
        network=NetworkJson(
            variant=spec.variant,
            width=spec.width,
            blocks=len(spec.blocks),
            squeeze_excitation=spec.squeezed,
            parameters=parameters,
        ),
        precision=NotMeasured(reason="float, as trained"),
        classes=spec.classes,
        labels=NotMeasured(reason="nothing names the classes") if stated.labels is None else stated.labels,
        outputs=(LOGITS, *(f"{HEAD}{each.name}" for each in spec.others)),
        preprocess=loaded.preprocess or NotMeasured(reason="nothing states it"),
        preprocess_source=dict(stated.preprocess.sources),
        made_from=_made_from(loaded.metadata),
        int8_mac_fraction=OF_A_CHECKPOINT,
        float_ops=OF_A_CHECKPOINT,
        notes=(*loaded.notes, *carried),
    )


class _Planned(JsonRecord):
    model_config = ConfigDict(extra="ignore")

    file: str
    target: str
    precision: str
    bytes: int
    sha256: str


class _Images(JsonRecord):
    model_config = ConfigDict(extra="ignore")

    id: str
    n: int


class _Plan(JsonRecord):
    """Of a bundle's plan what is shown."""

    model_config = ConfigDict(extra="ignore")

    artifacts: tuple[_Planned, ...]
    dataset: _Images


class _Tool(JsonRecord):
    model_config = ConfigDict(extra="ignore")

    name: str
    version: str


class _Identity(JsonRecord):
    model_config = ConfigDict(extra="ignore")

    bundle_id: str
    created_by: _Tool


def _bundle(path: Path) -> BundleJson:
    """A bundle whose every file is what its sums say."""
    try:
        require_untrusted(path, MOST_BUNDLE_BYTES)
        archive = open_archive(path)
        archive.check()
        identity = _Identity.parse(archive.read("bundle.json"))
        plan = _Plan.parse(archive.read(PLAN_FILE))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a bundle of rexnet-bench") from error
    except (RunnerError, ConversionError) as error:
        raise DataError(f"{path}: {error}") from error
    return BundleJson(
        bundle_id=identity.bundle_id,
        created_by=f"{identity.created_by.name} {identity.created_by.version}",
        images=plan.dataset.id,
        n=plan.dataset.n,
        files=tuple(
            BundledFileJson(
                file=each.file.rpartition("/")[2],
                runtime=each.target,
                precision=each.precision,
                bytes=each.bytes,
                sha256=each.sha256,
            )
            for each in plan.artifacts
        ),
    )
