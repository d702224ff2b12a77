"""`rexnet-bench bundle`: an export folder becomes one file that runs on any device."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.pipeline.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from rexnet_export.apps.bench.bundle.bundle import Candidate, Origin
    from rexnet_export.apps.shared.terminal import Terminal
    from rexnet_export.pipeline.core.records import ModelCard
    from rexnet_export.pipeline.data.selection import Images

SUFFIXES = (".tflite", ".ort", ".mlpackage")
X86_STEM, X86_MACHINES = "-x86", ("x86_64", "AMD64")


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of `bundle`."""
    p.add_argument("folder", type=Path, metavar="DIR", help="what rexnet-export wrote")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the bundle, a .zip")
    add_content_options(p, images=500)


def add_content_options(p: argparse.ArgumentParser, images: int) -> None:
    """What goes into a bundle of an export."""
    p.add_argument(
        "--baseline", type=Path, metavar="DIR", help="an export whose files of the same names are timed beside"
    )
    p.add_argument("--eval-data", type=Path, metavar="DIR", help="images, one sub-folder per class (default: bundled)")
    p.add_argument("--images", type=int, default=images, metavar="N", help=f"how many of them (default: {images})")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")


def make_bundle(options: argparse.Namespace, terminal: Terminal) -> int:
    """Make the zip of everything that any device runs."""
    if options.output.suffix != ".zip":
        raise UsageError(f"--output {options.output}: a bundle's name ends in .zip")
    if not options.output.absolute().parent.is_dir():
        raise UsageError(f"--output {options.output}: there is no folder {options.output.absolute().parent}")
    bundle_export(options, SUFFIXES, options.output, terminal)
    return 0


def bundle_export(options: argparse.Namespace, suffixes: tuple[str, ...], output: Path, terminal: Terminal) -> None:
    """Open every artifact of these kinds on the desktop, run it on the images, and write the zip."""
    # Imported late: torch alone takes seconds, and --help should not wait for it.
    from rexnet_export.apps.bench.bundle.bundle import seal, write_contents  # noqa: PLC0415
    from rexnet_export.pipeline.artifact.export_folder import find_release, require_vouched  # noqa: PLC0415

    if options.images < 1:
        raise UsageError(f"--images {options.images}: name 1 or more")
    release = find_release((options.folder,), (*SUFFIXES, ".safetensors"))
    for folder in (options.folder, *([options.baseline] if options.baseline else [])):
        require_vouched(folder)
    paths = sorted((p for p in release.artifacts if p.suffix in suffixes), key=_preference)
    if not paths:
        raise UsageError(f"{options.folder} holds no {' or '.join(suffixes)}; export one")
    card, candidates = _opened(paths, options.baseline)
    with tempfile.TemporaryDirectory(prefix="rexnet-bundle-") as name:
        folder = Path(name)
        images = _images(options, card)
        write_contents(folder, candidates, images, card, dict(runner_files()), options.seed, terminal)
        identity = seal(folder, origin(), output)
    terminal.note(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {len(candidates)} artifacts, "
        f"{len(images.indices)} images, bundle {identity[:16]}"
    )


def runner_files() -> Iterator[tuple[str, bytes]]:
    """The device runner's modules by name."""
    for entry in sorted(files("rexnet_export.apps.bench.runner").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".py"):
            yield entry.name, entry.read_bytes()


def origin() -> Origin:
    """This tool; its commit where its own files are tracked by git."""
    from rexnet_export.apps.bench.bundle.bundle import Origin  # noqa: PLC0415

    commit = dirty = None
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is not None:
        commit = _git("rev-parse", "HEAD")
        dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return Origin(name="rexnet-export", version=version("rexnet-export"), git_commit=commit, git_dirty=dirty)


def _opened(paths: list[Path], baseline: Path | None) -> tuple[ModelCard, list[Candidate]]:
    """The artifacts with their sessions, and the card they share."""
    from rexnet_export.apps.bench.bundle.bundle import Candidate  # noqa: PLC0415
    from rexnet_export.pipeline.artifact.metadata import card_from  # noqa: PLC0415
    from rexnet_export.pipeline.core.records import PRECISIONS, Artifact, stored_file  # noqa: PLC0415
    from rexnet_export.targets import TARGETS  # noqa: PLC0415
    from rexnet_export.targets.isolation.isolated_file import target_of  # noqa: PLC0415

    cards, candidates = [], []
    for path in paths:
        target = TARGETS[target_of(path)]
        artifact = Artifact(target=target.name, precision="int8", file=stored_file(path))
        inspection = target.inspect(artifact)
        metadata = inspection.metadata
        (precision,) = [known for known in PRECISIONS if known == metadata.get("precision")] or ["fp32"]
        logits = inspection.qparams.get("logits") if precision == "int8" else None
        cards.append(card_from(metadata))
        candidates.append(
            Candidate(
                file=artifact.file,
                target=target.name,
                precision=precision,
                session=target.open(artifact),
                machines=X86_MACHINES if path.stem.endswith(X86_STEM) else (),
                step=float(logits.scale[0]) if logits else None,
                reference=stored_file(_beside(baseline, path.name)) if baseline else None,
            )
        )
    if strangers := [path.name for path, card in zip(paths, cards, strict=True) if card != cards[0]]:
        raise UsageError(f"{strangers[0]} is of another checkpoint than {paths[0].name}; bundle one export")
    return cards[0], candidates


def _beside(baseline: Path, name: str) -> Path:
    if not (baseline / name).exists():
        raise UsageError(f"--baseline {baseline} has no {name}; export it with the same targets and precision")
    return baseline / name


def _images(options: argparse.Namespace, card: ModelCard) -> Images:
    from rexnet_export.pipeline.data.selection import labelled_images  # noqa: PLC0415
    from rexnet_export.pipeline.data.sources import bundled, open_source  # noqa: PLC0415

    if options.eval_data is None and card.labels != bundled("evaluation").class_names:
        raise DataError(f"{card.name} does not know the bundled images' labels; name your own with --eval-data")
    source = open_source(options.eval_data, labelled=True) if options.eval_data else bundled("evaluation")
    return labelled_images(source, card, options.images, options.seed)


def _preference(path: Path) -> tuple[int, bool, str]:
    """The first that a device can run is what it runs: TFLite, then presets before the plain `.ort`."""
    return SUFFIXES.index(path.suffix), not path.stem.endswith(X86_STEM), path.name


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - whichever git the person uses
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
