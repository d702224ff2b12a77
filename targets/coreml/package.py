"""The `.mlpackage` folder: written so that equal content gives equal bytes, read so that damage is noticed."""

from __future__ import annotations

import json
import logging
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.core.strict_json import read_json
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, read_untrusted
from rexnet_export.targets.coreml.weight_file import FILE, check_weights

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program, Var
    from coremltools.proto.Model_pb2 import Model

MANIFEST = "Manifest.json"
MODEL = "com.apple.CoreML/model.mlmodel"
WEIGHTS = "com.apple.CoreML/weights"
GENERATOR = "rexnet-export"
SPECIFICATIONS = {8: "CoreML7", 9: "CoreML8"}  # iOS 17 and 18: the operations that their programs are written in
MOST_MANIFEST = 2**16  # bytes: it names two files
_IDENTIFIERS = uuid.uuid5(uuid.NAMESPACE_DNS, "rexnet-export")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package read from disk: its specification and its MIL program, weights included."""

    path: Path
    spec: Model
    program: Program

    @property
    def operations(self) -> list[Operation]:
        """The operations of `main`, in order."""
        return list(self.program.functions["main"].operations)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The user-defined metadata."""
        metadata: Mapping[str, str] = self.spec.description.metadata.userDefined
        return metadata


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back coremltools' progress bars and its complaints about torch versions and missing macOS libraries."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def seal(path: Path, spec: Model) -> None:
    """Write `spec` into a package coremltools has saved, and identifiers that follow from the content.

    coremltools writes the manifest again whenever it opens a package: in the same order, it stays the same file.
    """
    model = path / "Data" / MODEL
    model.unlink()  # coremltools leaves it readable by its owner only
    model.write_bytes(spec.SerializeToString(deterministic=True))
    (path / MANIFEST).write_text(json.dumps(_manifest(path), indent=4, sort_keys=True) + "\n")


def read_package(path: Path) -> Package:
    """Read a package this exporter wrote; missing, cut, edited or foreign parts are one `ConversionError`."""
    require_intact(path)
    return read_altered(path)


def require_intact(path: Path) -> None:
    """`ConversionError` unless this exporter wrote the package and its manifest still fits its content."""
    _read_own(path)
    _check_content(path)


def read_altered(path: Path) -> Package:
    """Read a package this exporter wrote, whatever its manifest says: fingerprints tell what of it changed since."""
    return _read_program(path, _read_own(path))


def _read_own(path: Path) -> Model:
    spec = _read_spec(path)
    if not spec.description.metadata.userDefined.get("generator", "").startswith(GENERATOR):
        raise ConversionError(f"{path} was not written by {GENERATOR}; give a package that was, or export it again")
    return spec


def _read_spec(path: Path) -> Model:
    with quiet():
        from coremltools import proto  # noqa: PLC0415

    spec = proto.Model_pb2.Model()
    try:
        spec.ParseFromString(read_untrusted(path / "Data" / MODEL, MOST_ARTIFACT, inside=path))
    except OSError as error:
        raise ConversionError(f"{path} is no complete Core ML package ({error}); export it again") from error
    except Exception as error:  # protobuf's decoders share no exception type
        raise ConversionError(f"{path} holds no readable model ({first_line(error)}); export it again") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise ConversionError(f"{path} holds {spec.WhichOneof('Type') or 'nothing'}, no ML program; export it again")
    if spec.specificationVersion not in SPECIFICATIONS:
        version = f"{spec.specificationVersion}, not 8 (iOS 17) or 9 (iOS 18)"
        raise ConversionError(f"{path} has specification version {version}; export it again")
    opsets = {function.opset for function in spec.mlProgram.functions.values()}
    if opsets - {SPECIFICATIONS[spec.specificationVersion]}:
        told = f"{', '.join(sorted(opsets))} in specification version {spec.specificationVersion}"
        raise ConversionError(f"{path} is written in the operations {told}; export it again")
    return spec


def _read_program(path: Path, spec: Model) -> Package:
    with quiet():
        from coremltools.converters.mil.frontend import milproto  # noqa: PLC0415

        try:
            check_weights(path, spec, path / "Data" / WEIGHTS / FILE)
            program = milproto.load.load(spec, spec.specificationVersion, str(path / "Data" / WEIGHTS))
            program.functions["main"]
        except OSError as error:
            raise ConversionError(f"{path} is no complete Core ML package ({error}); export it again") from error
        except ConversionError:
            raise
        except Exception as error:  # coremltools and its C++ reader share no exception type
            reason = first_line(error)
            raise ConversionError(f"{path} holds no readable ML program ({reason}); export it again") from error
    return Package(path=path, spec=spec, program=program)


def is_stored(op: Operation) -> bool:
    """Whether an operation computes nothing at run time: it holds a constant, as it is or compressed."""
    return str(op.op_type) == "const" or str(op.op_type).startswith("constexpr_")


def expanded(var: Var) -> NDArray[np.generic]:
    """The values of a weight that is stored compressed; what coremltools cannot expand is a `ConversionError`."""
    try:
        op = var.op
        if op.op_type == "constexpr_lut_to_dense" and op.lut.val is None:
            # coremltools moves a channel's scale into the table, and then does not expand what it made.
            table = op.lut.op.materialized_val_inference()
            axis = None if op.vector_axis is None else op.vector_axis.val
            return np.asarray(op.decompress(op.indices.val, table, axis))
        return np.asarray(op.materialized_val_inference())
    except Exception as error:  # coremltools has no exception type of its own
        reason = f"{var.op.op_type} of {var.name} cannot be expanded ({first_line(error)})"
        raise ConversionError(f"{reason}; export it again") from error


def type_name(variable: Var) -> str:
    """The element type of a MIL variable: `fp16`, `fp32`, `int8` ..."""
    from coremltools.converters.mil.mil import types  # noqa: PLC0415

    name: str = types.builtin_to_string(variable.dtype)
    return name


def _check_content(path: Path) -> None:
    """The identifiers are digests, so a part that is cut or altered after writing no longer fits the manifest.

    Those that coremltools writes, as when it compresses a package, are random: of its content fingerprints tell more.
    """
    try:
        found = read_json(path / MANIFEST, MOST_MANIFEST)
        intact = found == _manifest(path) or _is_coremltools_own(found)
    except (OSError, ConversionError) as error:
        raise ConversionError(f"{path} is no complete Core ML package ({error}); export it again") from error
    if not intact:
        raise ConversionError(f"{path} was damaged or edited: its content no longer fits {MANIFEST}; export it again")


def _is_coremltools_own(manifest: object) -> bool:
    entries = manifest.get("itemInfoEntries") if isinstance(manifest, dict) else None
    return isinstance(entries, dict) and len(entries) == 2 and all(map(_is_random, entries))


def _is_random(identifier: str) -> bool:
    with suppress(ValueError):
        return uuid.UUID(identifier).version == 4
    return False


def _manifest(path: Path) -> dict[str, Any]:
    data = path / "Data"
    model = _identifier(data / MODEL)
    weights = _identifier(data / WEIGHTS / FILE)
    return {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            model: _entry(MODEL, "CoreML Model Specification"),
            weights: _entry(WEIGHTS, "CoreML Model Weights"),
        },
        "rootModelIdentifier": model,
    }


def _entry(path: str, description: str) -> dict[str, str]:
    return {"author": "com.apple.CoreML", "description": description, "name": Path(path).name, "path": path}


def _identifier(file: Path) -> str:
    return str(uuid.uuid5(_IDENTIFIERS, f"{file.name}:{file_sha256(file)}")).upper()
