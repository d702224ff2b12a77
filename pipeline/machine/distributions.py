"""What is installed here: this package's code, and every package that it needs, with versions and licences."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import as_file, files

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME = "rexnet-export"
EXPORT = frozenset({"export"})
PURL = "pkg:pypi/"
PARTS = ("pipeline", "quantization", "targets", "apps")
CLASSIFIER = "License :: OSI Approved :: "
LONGEST_LICENCE = 80  # some packages put the whole text where its name belongs


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """An installed package; `licence` is an SPDX expression where it says one, else the name that it gives."""

    name: str
    version: str
    licence: str | None
    is_spdx: bool
    required: bool

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"{PURL}{self.name}@{self.version}"


@cache
def installed(name: str = NAME) -> tuple[Distribution, ...]:
    """A package and what it needs here, directly (`required`) or not, by name; of its extras only `export`."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str], bool]] = [(name, EXPORT, True)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        package, extras, required = waiting.pop(0)  # the nearest first
        if (package, extras) in seen:
            continue
        seen.add((package, extras))
        try:
            here = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue  # only where somebody installed without dependencies
        found.setdefault(package, _described(package, here, required=required))
        for requirement in map(Requirement, here.requires or ()):
            if any(_applies(requirement, extra) for extra in extras or {""}):
                inner = canonicalize_name(requirement.name)
                waiting.append((inner, frozenset(requirement.extras), package == name))
    return tuple(found[package] for package in sorted(found))


def code_sha256() -> str:
    """Digest of this package's own code as it is here: every `.py` file's name and content."""
    digest = hashlib.sha256()
    for part in PARTS:
        with as_file(files(f"rexnet_export.{part}")) as root:
            for path in sorted(root.rglob("*.py")):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{part}/{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _described(name: str, here: metadata.Distribution, *, required: bool) -> Distribution:
    said = here.metadata
    expression = said.get("License-Expression")
    classified = [
        text.removeprefix(CLASSIFIER) for text in said.get_all("Classifier", ()) if text.startswith(CLASSIFIER)
    ]
    text = (said.get("License") or "").strip()
    plain = text if text and len(text) <= LONGEST_LICENCE and "\n" not in text else None
    licence = expression or " AND ".join(classified) or plain
    return Distribution(
        name=name, version=here.version, licence=licence, is_spdx=expression is not None, required=required
    )
