"""Signed folders: whatever is altered, added to the claim, or signed by another key is refused by name."""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from signed_folders import key_pair, stated_folder

from rexnet_export.pipeline.artifact import signature
from rexnet_export.pipeline.artifact.signature import require_signed, signer
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable, UsageError

STATEMENT, ENVELOPE = "provenance.intoto.json", "provenance.dsse.json"


def signed(folder: Path, key: Path) -> Path:
    stated_folder(folder)
    (folder / ENVELOPE).write_bytes(signer(key)((folder / STATEMENT).read_bytes()))
    return folder


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_what_was_signed_is_believed(tmp_path: Path, kind: str) -> None:
    secret, public = key_pair(tmp_path, "key", kind)
    folder = signed(tmp_path / "out", secret)
    assert len(require_signed(folder, public)) == 64
    (folder / "notes.txt").write_text("of no export")
    require_signed(folder, public)


def test_a_key_may_have_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, public = key_pair(tmp_path, "key", password=b"secret")
    with pytest.raises(UsageError, match="its password is read from REXNET_EXPORT_KEY_PASSWORD"):
        signer(secret)
    monkeypatch.setenv("REXNET_EXPORT_KEY_PASSWORD", "wrong")
    with pytest.raises(UsageError, match="--sign"):
        signer(secret)
    monkeypatch.setenv("REXNET_EXPORT_KEY_PASSWORD", "secret")
    require_signed(signed(tmp_path / "out", secret), public)


def artifact(folder: Path) -> None:
    (folder / "m.ort").write_bytes(b"or7")


def member(folder: Path) -> None:
    (folder / "m.mlpackage" / "Data" / "weight.bin").write_bytes(b"\x01\x03")


def manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def provenance(folder: Path) -> None:
    path = folder / STATEMENT
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def removed(folder: Path) -> None:
    (folder / ENVELOPE).unlink()


def emptied(folder: Path) -> None:
    envelope = json.loads((folder / ENVELOPE).read_text())
    (folder / ENVELOPE).write_text(json.dumps(envelope | {"signatures": []}))


def forged(folder: Path) -> None:
    """Another statement under the old signature."""
    provenance(folder)
    envelope = json.loads((folder / ENVELOPE).read_text())
    payload = base64.b64encode((folder / STATEMENT).read_bytes()).decode()
    (folder / ENVELOPE).write_text(json.dumps(envelope | {"payload": payload}))


def no_envelope(folder: Path) -> None:
    (folder / ENVELOPE).write_text("[" * 2000)


def missing(folder: Path) -> None:
    (folder / "m.ort").unlink()


TAMPERED: Mapping[Callable[[Path], None], str] = {
    artifact: r"is not what was signed: 'm\.ort' is not what was stated",
    member: r"'m\.mlpackage/Data/weight\.bin' is not what was stated",
    manifest: r"'manifest\.json' is not what was stated",
    provenance: r"provenance\.intoto\.json is not what was signed",
    removed: r"is not signed: it has no provenance\.dsse\.json; export with --sign KEY",
    emptied: "is not signed by .*: its signature is another's, or altered|is no envelope",
    forged: "is not signed by .*: its signature is another's, or altered",
    no_envelope: "is no envelope",
    missing: r"'m\.ort' cannot be read",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
def test_whatever_is_altered_is_refused(tmp_path: Path, tamper: Callable[[Path], None]) -> None:
    secret, public = key_pair(tmp_path, "key")
    folder = signed(tmp_path / "out", secret)
    tamper(folder)
    with pytest.raises(ConversionError, match=TAMPERED[tamper]):
        require_signed(folder, public)


def test_another_key_is_not_trusted(tmp_path: Path) -> None:
    secret, _ = key_pair(tmp_path, "key")
    _, other = key_pair(tmp_path, "other")
    with pytest.raises(ConversionError, match=r"is not signed by .*other\.pub: its signature is another's, or altered"):
        require_signed(signed(tmp_path / "out", secret), other)


def test_another_kind_of_claim_is_no_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, public = key_pair(tmp_path, "key")
    with monkeypatch.context() as patch:
        patch.setattr(signature, "PAYLOAD", "text/plain")
        folder = signed(tmp_path / "out", secret)
    with pytest.raises(ConversionError, match="what is signed is 'text/plain', no statement on files"):
        require_signed(folder, public)


def test_what_is_no_key_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    secret, public = key_pair(tmp_path, "key")
    folder = signed(tmp_path / "out", secret)
    nowhere = tmp_path / "nowhere"
    for flag, asked in (("--sign", lambda: signer(nowhere)), ("--trusted", lambda: require_signed(folder, nowhere))):
        with pytest.raises(UsageError) as refused:
            asked()
        assert str(refused.value) == f"{flag} {nowhere}: No such file or directory; name a key in PEM"
    with pytest.raises(UsageError, match="is no private key"):
        signer(public)
    with pytest.raises(UsageError, match="is no public key"):
        require_signed(folder, secret)


def test_without_the_library_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "find_spec", lambda _: None)
    for asked in (lambda: signer(tmp_path), lambda: require_signed(tmp_path, tmp_path)):
        with pytest.raises(TargetUnavailable, match=r"run `.*(?:\[|--extra )sign\b.*`"):
            asked()
