"""`provenance.dsse.json`: the statement of an export in a signed envelope, with a key that needs no service.

DSSE (https://github.com/secure-systems-lab/dsse) as in-toto uses it; keys are PEM files: Ed25519, ECDSA or RSA.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.artifact.provenance import Statement
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable, UsageError, first_line
from rexnet_export.pipeline.core.files import PROVENANCE_FILE, SIGNATURE_FILE
from rexnet_export.pipeline.core.installing import extra_command
from rexnet_export.pipeline.core.json import to_text
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.core.untrusted import read_untrusted

PAYLOAD = "application/vnd.in-toto+json"
PASSWORD = "REXNET_EXPORT_KEY_PASSWORD"  # noqa: S105 - the name of a variable
MOST_KEY, MOST_ENVELOPE = 2**16, 2**26  # bytes

type Sign = Callable[[bytes], bytes]
type Key = Any  # of cryptography or securesystemslib, which are imported only where they are used


def signer(path: Path) -> Sign:
    """What signs a statement: content of `provenance.intoto.json` in, that of `provenance.dsse.json` out.

    `path` is a private key in PEM, whose password is in `REXNET_EXPORT_KEY_PASSWORD` where it has one; `UsageError`
    where it is none, before anything is made.
    """
    _require_library()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415

    password = os.environ.get(PASSWORD)
    try:
        private = load_pem_private_key(_key(path, "--sign"), password.encode() if password else None)
        key: Key = CryptoSigner(private)
    except (TypeError, ValueError) as error:
        cure = f"give an Ed25519, ECDSA or RSA key in PEM; its password is read from {PASSWORD}"
        raise UsageError(f"--sign {path} is no private key that can be used ({first_line(error)}): {cure}") from error
    except UsageError:  # it cannot be read
        raise
    except Exception as error:  # UnsupportedAlgorithm, UnsupportedKeyType: of two libraries
        raise UsageError(f"--sign {path}: {first_line(error)}; give an Ed25519, ECDSA or RSA key in PEM") from error

    def sign(content: bytes) -> bytes:
        envelope = Envelope(payload=content, payload_type=PAYLOAD, signatures={})
        envelope.sign(key)
        return to_text(envelope.to_dict()).encode()

    return sign


def require_signed(folder: Path, path: Path) -> str:
    """`ConversionError` unless the public key (PEM) at `path` signed the folder as it is; gives its name."""
    _require_library()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.exceptions import VerificationError  # noqa: PLC0415
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415

    try:
        key: Key = SSlibKey.from_crypto(load_pem_public_key(_key(path, "--trusted")))
    except UsageError:  # it cannot be read
        raise
    except Exception as error:
        raise UsageError(f"--trusted {path} is no public key in PEM ({first_line(error)})") from error
    try:
        content: Any = strict_loads(read_untrusted(folder / SIGNATURE_FILE, MOST_ENVELOPE), MOST_ENVELOPE)
        envelope = Envelope.from_dict(content)
    except FileNotFoundError as error:
        raise ConversionError(f"{folder} is not signed: it has no {SIGNATURE_FILE}; export with --sign KEY") from error
    except Exception as error:
        raise ConversionError(
            f"{folder / SIGNATURE_FILE} is no envelope ({first_line(error)}); export again"
        ) from error
    try:
        envelope.verify([key], 1)
    except VerificationError as error:
        raise ConversionError(f"{folder} is not signed by {path}: its signature is another's, or altered") from error
    _require_as_signed(folder, envelope.payload, envelope.payload_type)
    return str(key.keyid)


def _require_as_signed(folder: Path, payload: bytes, kind: str) -> None:
    if kind != PAYLOAD:
        raise ConversionError(f"{folder}: what is signed is {kind!a}, no statement on files")
    problems = Statement.parse(payload).differences(folder)
    try:
        if read_untrusted(folder / PROVENANCE_FILE, MOST_ENVELOPE) != payload:
            problems.append(f"{PROVENANCE_FILE} is not what was signed")
    except OSError as error:
        problems.append(f"{PROVENANCE_FILE} cannot be read ({error.strerror})")
    if problems:
        raise ConversionError(f"{folder} is not what was signed: {', '.join(problems)}; export again")


def _require_library() -> None:
    if find_spec("securesystemslib") is None or find_spec("cryptography") is None:
        raise TargetUnavailable(f"signatures need securesystemslib and cryptography: run `{extra_command('sign')}`")


def _key(path: Path, flag: str) -> bytes:
    try:
        return read_untrusted(path, MOST_KEY)
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}; name a key in PEM") from error
