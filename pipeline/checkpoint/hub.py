"""Checkpoints on the Hugging Face Hub, `hf-hub:owner/name` or `hf-hub:owner/name@revision`.

huggingface_hub does the work, so HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what they always mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rexnet_export.pipeline.checkpoint.foreign_settings import CONFIG_FILE
from rexnet_export.pipeline.checkpoint.reference import WEIGHT_FILES
from rexnet_export.pipeline.core.errors import CheckpointError, first_line
from rexnet_export.pipeline.core.extras import require_module

TIMEOUT_SECONDS = 10
_REFERENCE = re.compile(r"hf-hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


@dataclass(frozen=True, kw_only=True)
class FetchedModel:
    """A repository's weights in the local cache, and its `config.json` where it has one."""

    path: Path
    config: Path | None


@dataclass(frozen=True, kw_only=True)
class _Repository:
    reference: str
    name: str
    revision: str | None


def fetch(reference: str) -> FetchedModel:
    """Bring a repository's weights and `config.json` into the cache, safetensors before pickles.

    Where the hub cannot be reached, what the cache already holds is used.
    """
    parsed = _REFERENCE.fullmatch(reference)
    if parsed is None:
        raise CheckpointError(f"{reference!r} is not hf-hub:owner/name or hf-hub:owner/name@revision")
    require_module("huggingface_hub", reference)
    repository = _Repository(reference=reference, name=parsed[1], revision=parsed[2])
    offered = _offered(repository)
    weights, config = _online(repository, offered) if isinstance(offered, tuple) else _cached(repository, offered)
    return FetchedModel(path=weights, config=config)


def _offered(repository: _Repository) -> tuple[str, ...] | Exception:
    """Which of our files the repository has, or why the hub could not be asked.

    Asked here because `hf_hub_download` retries an unreachable hub for 24 seconds a file, aloud.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415
    from huggingface_hub.errors import RemoteEntryNotFoundError  # noqa: PLC0415

    offered = []
    for name in (*WEIGHT_FILES, CONFIG_FILE):
        try:
            url = hf_hub_url(repository.name, name, revision=repository.revision)
            get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS)
        except RemoteEntryNotFoundError:
            continue
        except Exception as error:
            if refusal := _refusal(error):
                raise CheckpointError(f"{repository.reference}: {refusal}") from error
            return error
        offered.append(name)
    return tuple(offered)


def _refusal(error: Exception) -> str | None:
    """What the hub said where it answered and declined; None where it did not answer properly."""
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return "this repository is gated: accept its terms on its page, then set HF_TOKEN"
        case RepositoryNotFoundError():
            return "no such repository, or no access to it (a private one needs HF_TOKEN)"
        case RevisionNotFoundError():
            return "the repository has no such revision"
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return f"the hub refused access (HTTP {error.response.status_code}): check HF_TOKEN"
        case HFValidationError():
            return "not a valid repository name"
        case _:
            return None


def _online(repository: _Repository, offered: tuple[str, ...]) -> tuple[Path, Path | None]:
    weights = next((name for name in WEIGHT_FILES if name in offered), None)
    if weights is None:
        raise CheckpointError(f"{repository.reference} has no {' or '.join(WEIGHT_FILES)}: give another repository")
    return _download(repository, weights), _download(repository, CONFIG_FILE) if CONFIG_FILE in offered else None


def _download(repository: _Repository, name: str) -> Path:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    try:
        return Path(hf_hub_download(repository.name, name, revision=repository.revision))
    except Exception as error:
        raise CheckpointError(
            f"{name} of {repository.reference} could not be downloaded: {first_line(error)}"
        ) from error


def _cached(repository: _Repository, cause: Exception) -> tuple[Path, Path | None]:
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415

    found: dict[str, Path] = {}
    for name in (*WEIGHT_FILES, CONFIG_FILE):
        path = try_to_load_from_cache(repository.name, name, revision=repository.revision)
        if isinstance(path, str):  # it may also be a mark that the repository has no such file
            found[name] = Path(path)
    weights = next((found[name] for name in WEIGHT_FILES if name in found), None)
    if weights is None:
        raise CheckpointError(
            f"{repository.reference} is not in the local cache, and {constants.ENDPOINT} could not be asked"
            f" ({first_line(cause)}): check the network, or give a file"
        ) from cause
    return weights, found.get(CONFIG_FILE)
