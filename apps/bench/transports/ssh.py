"""Devices behind the system's OpenSSH, which knows the person's keys, names and jump hosts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from rexnet_export.apps.bench.transports.posix import HOME, RUNTIME, PosixTransport
from rexnet_export.pipeline.core.errors import UsageError

# A name that starts with a dash would be an option, and other signs mean something to a ProxyCommand's shell.
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
ADDRESS = re.compile(r"[0-9A-Fa-f:]+")
# No questions, as nobody would see them; a dead connection is noticed within a minute.
OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
# Never where others may take names. The last is for root on a board whose home cannot be written to.
ROOTS = (HOME, RUNTIME, "/run")


def ssh(url: str, config: Path | None = None) -> PosixTransport:
    """`ssh://[user@]host[:port]`; `config` takes the place of the person's ~/.ssh/config."""
    user, host, port = parsed(url)
    own = ("-F", str(config)) if config else ()
    target = ("-p", str(port)) if port else ()
    login = ("-l", user) if user else ()
    return PosixTransport(
        name=url,
        process_kind="ssh",
        roots=ROOTS,
        prefix=("ssh", *own, *OPTIONS, *target, *login, "--", host),
    )


def parsed(url: str) -> tuple[str | None, str, int | None]:
    """User, host and port; `UsageError` where they are anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--device {url!r}: {error}; write ssh://user@host:port") from error
    host, user = parts.hostname or "", parts.username
    plain = WORD.fullmatch(host) or ADDRESS.fullmatch(host)
    whole = parts.scheme == "ssh" and not (parts.path.strip("/") or parts.query or parts.fragment or parts.password)
    if not whole or not plain or (user is not None and not WORD.fullmatch(user)):
        raise UsageError(f"--device {url!r} is not of the form ssh://user@host:port")
    # urlsplit writes a host in small letters, and ~/.ssh/config tells them apart.
    exact = re.search(re.escape(host), url, re.IGNORECASE)
    return user, exact.group() if exact else host, port
