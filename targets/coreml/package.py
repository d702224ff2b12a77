"""The `.mlpackage` folder: written so that equal content gives equal bytes, read so that damage is noticed."""

from __future__ import annotations

import json
import logging
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.targets.coreml.weight_file import FILE, check_weights

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program, Var
    from coremltools.proto.Model_pb2 import Model

MANIFEST = "Manifest.json"
MODEL = "com.apple.CoreML/model.mlmodel"
WEIGHTS = "com.apple.CoreML/weights"
GENERATOR = "rexnet-export"
SPECIFICATION = 8  # iOS 17
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
    """Write `spec` into a package coremltools has saved, and identifiers that follow from the content."""
    model = path / "Data" / MODEL
    model.unlink()  # coremltools leaves it readable by its owner only
    model.write_bytes(spec.SerializeToString(deterministic=True))
    (path / MANIFEST).write_text(json.dumps(_manifest(path), indent=4) + "\n")


def read_package(path: Path) -> Package:
    """Read a package this exporter wrote; missing, cut, edited or foreign parts are one `ConversionError`."""
    spec = _read_spec(path)
    _require_own(path, spec)
    _check_content(path)
    return _read_program(path, spec)


def read_altered(path: Path) -> Package:
    """Read a package this exporter wrote, whatever its manifest says: fingerprints tell what of it changed since."""
    spec = _read_spec(path)
    _require_own(path, spec)
    return _read_program(path, spec)


def _require_own(path: Path, spec: Model) -> None:
    if not spec.description.metadata.userDefined.get("generator", "").startswith(GENERATOR):
        raise ConversionError(f"{path} was not written by {GENERATOR}; give a package that was, or export it again")


def _read_spec(path: Path) -> Model:
    with quiet():
        from coremltools import proto  # noqa: PLC0415

    spec = proto.Model_pb2.Model()
    try:
        spec.ParseFromString((path / "Data" / MODEL).read_bytes())
    except OSError as error:
        raise ConversionError(f"{path} is no complete Core ML package ({error}); export it again") from error
    except Exception as error:  # protobuf's decoders share no exception type
        raise ConversionError(f"{path} holds no readable model ({first_line(error)}); export it again") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise ConversionError(f"{path} holds {spec.WhichOneof('Type') or 'nothing'}, no ML program; export it again")
    if spec.specificationVersion != SPECIFICATION:
        version = f"{spec.specificationVersion}, not {SPECIFICATION} (iOS 17)"
        raise ConversionError(f"{path} has specification version {version}; export it again")
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


def type_name(variable: Var) -> str:
    """The element type of a MIL variable: `fp16`, `fp32`, `int8` ..."""
    from coremltools.converters.mil.mil import types  # noqa: PLC0415

    name: str = types.builtin_to_string(variable.dtype)
    return name


def _check_content(path: Path) -> None:
    """The identifiers are digests, so a part that is cut or altered after writing no longer fits the manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        intact = manifest == _manifest(path)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} is no complete Core ML package ({error}); export it again") from error
    if not intact:
        raise ConversionError(f"{path} was damaged or edited: its content no longer fits {MANIFEST}; export it again")


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
