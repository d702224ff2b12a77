"""A small export as its records see it, and keys to sign it with."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ecdsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rexnet_export.pipeline.artifact.manifest import MadeFrom, made_from, manifest
from rexnet_export.pipeline.artifact.provenance import statement
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.records import StoredFile, stored_file

MOMENT = "2023-11-14T22:13:20+00:00"


def made() -> MadeFrom:
    checkpoint = StoredFile(path=Path("network.safetensors"), sha256="a" * 64, bytes=1)
    return made_from(checkpoint, {"seed": 0, "precision": "int8"}, {})


def stated_folder(folder: Path) -> Path:
    """An output folder with a package, its manifest and its provenance."""
    weights = folder / "m.mlpackage" / "Data"
    weights.mkdir(parents=True)
    (weights / "weight.bin").write_bytes(b"\x01\x02")
    (folder / "m.ort").write_bytes(b"ort")
    files = {path.name: stored_file(path) for path in folder.iterdir()}
    (folder / "manifest.json").write_text(to_text(manifest(files, made()).to_json()))
    images = {"calibration images": "b" * 64, "evaluation images": "c" * 64}
    (folder / "provenance.intoto.json").write_text(to_text(statement(folder, made(), images, MOMENT)))
    return folder


def key_pair(folder: Path, name: str, kind: str = "ed25519", password: bytes | None = None) -> tuple[Path, Path]:
    """PEM files of a private key and of its public one."""
    private = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_ecdsa(SECP256R1())
    secret, public = folder / f"{name}.pem", folder / f"{name}.pub"
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    secret.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return secret, public
