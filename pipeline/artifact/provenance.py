"""`provenance.intoto.json`: an in-toto statement of how every file of a folder came to be, in SLSA's words.

https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.1/provenance
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from rexnet_export.pipeline.artifact.manifest import MadeFrom
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.files import MANIFEST_FILE, PROVENANCE_FILE, SIGNATURE_FILE
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import MOST_BYTES, file_sha256
from rexnet_export.pipeline.core.untrusted import open_untrusted, package_members
from rexnet_export.pipeline.machine.distributions import NAME, PURL, code_sha256, installed

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD = "urn:rexnet-export:export:v1"
BUILDER = "urn:rexnet-export"
PIECE = 2**20
UNNAMED = {PROVENANCE_FILE, SIGNATURE_FILE}  # what would have to name itself


class _Digests(JsonRecord):
    model_config = ConfigDict(extra="ignore")

    sha256: Sha256


class _Subject(JsonRecord):
    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    digest: _Digests


class Statement(JsonRecord):
    """Of a statement what binds it to files."""

    model_config = ConfigDict(extra="ignore")

    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[tuple[_Subject, ...], Field(min_length=1)]

    def differences(self, folder: Path) -> list[str]:
        """What of the folder is not as it was stated, each thing in a few words; other files do not matter."""
        problems = []
        for subject in self.subject:
            try:
                if _digest_inside(folder, subject.name) != subject.digest.sha256:
                    problems.append(f"{subject.name!a} is not what was stated")
            except OSError as error:
                problems.append(f"{subject.name!a} cannot be read ({error.strerror})")
        return problems


def statement(folder: Path, made: MadeFrom, images: Mapping[str, str], finished: str) -> dict[str, Any]:
    """The statement on all files of a folder whose manifest is written; `images` are digests of image sets by name."""
    materials = [{"name": made.checkpoint.file, "digest": {"sha256": made.checkpoint.sha256}}]
    materials += [{"name": name, "digest": {"sha256": digest}} for name, digest in images.items()]
    tools = installed()
    (version,) = (tool.version for tool in tools if tool.name == NAME)
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in _files(folder)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": made.options,
                "internalParameters": {},
                "resolvedDependencies": materials + [{"uri": tool.purl} for tool in tools if tool.name != NAME],
            },
            "runDetails": {
                "builder": {
                    "id": f"{BUILDER}:{version}",
                    "version": {NAME: version},
                    "builderDependencies": [{"name": f"{NAME} code", "digest": {"sha256": code_sha256()}}],
                },
                "metadata": {"finishedOn": finished.replace("+00:00", "Z")},
            },
        },
    }


def tools_of(stated: Any) -> dict[str, str | None]:  # noqa: ANN401 - JSON
    """The versions of packages that a statement names, and the digest of our own code; what is not there, is not."""
    try:
        build, run = stated["predicate"]["buildDefinition"], stated["predicate"]["runDetails"]
        uris = [part["uri"] for part in build["resolvedDependencies"] if "uri" in part]
        found = [uri.removeprefix(PURL).rpartition("@") for uri in uris]
        code = {f"code of {NAME}": part["digest"]["sha256"] for part in run["builder"]["builderDependencies"]}
        return {**{name: version for name, _, version in found}, **run["builder"]["version"], **code}
    except (AttributeError, KeyError, TypeError):
        return {}


def require_stated(folder: Path, text: bytes) -> None:
    """`ConversionError` unless a folder's statement is about the manifest that lies there."""
    stated = Statement.parse(text)
    manifest = {file_sha256(folder / MANIFEST_FILE)}
    if {subject.digest.sha256 for subject in stated.subject if subject.name == MANIFEST_FILE} != manifest:
        raise ConversionError(f"it is about another {MANIFEST_FILE}")


def _digest_inside(folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    with open_untrusted(folder / name, MOST_BYTES, inside=folder) as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of every file, those in packages too."""
    for path in package_members(folder):
        name = path.relative_to(folder).as_posix()
        if name not in UNNAMED:
            yield name, file_sha256(path)
