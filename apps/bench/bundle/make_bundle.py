"""An export folder becomes one file that runs on any device."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from rexnet_export.apps.bench.bundle.bundle import Candidate, Origin, seal, write_contents
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.artifact.export_folder import find_release, require_vouched
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import DataError, UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import PRECISIONS, Artifact, ModelCard, stored_file
from rexnet_export.pipeline.data.selection import Images, labelled_images
from rexnet_export.pipeline.data.sources import bundled, open_source
from rexnet_export.targets import TARGETS
from rexnet_export.targets.isolation.isolated_file import target_of

SUFFIXES = (".tflite", ".ort", ".mlpackage")
OTHERS = (".safetensors", ".openvino", ".onnx")  # what an export may hold besides, and no device's runner opens
X86_STEM, X86_MACHINES = "-x86", ("x86_64", "AMD64")


def make_bundle(options: argparse.Namespace, terminal: Terminal) -> int:
    """Make the zip of everything that any device runs."""
    if options.output.suffix != ".zip":
        raise UsageError(f"--output {options.output}: a bundle's name ends in .zip")
    if not options.output.absolute().parent.is_dir():
        raise UsageError(f"--output {options.output}: there is no folder {options.output.absolute().parent}")
    bundle_export(options, SUFFIXES, options.output, terminal)
    terminal.note(done(f"{options.output} is whole", f"run it: rexnet-bench run {options.output} --device DEVICE"))
    return 0


def bundle_export(options: argparse.Namespace, suffixes: tuple[str, ...], output: Path, terminal: Terminal) -> None:
    """Open every artifact of these kinds on the desktop, run it on the images, and write the zip."""
    if options.images < 1:
        raise UsageError(f"--images {options.images}: name 1 or more")
    release = find_release((options.folder,), (*SUFFIXES, *OTHERS))
    for folder in (options.folder, *([options.baseline] if options.baseline else [])):
        require_vouched(folder)
    paths = sorted((p for p in release.artifacts if p.suffix in suffixes), key=_preference)
    if others := [path.name for path in release.artifacts if path.suffix in OTHERS]:
        terminal.note(f"left out, as devices' runners open none such: {', '.join(others)}")
    if not paths:
        raise UsageError(f"{options.folder} holds no {' or '.join(suffixes)}; export one")
    card, candidates = _opened(paths, options.baseline)
    with tempfile.TemporaryDirectory(prefix="rexnet-bundle-") as name:
        folder = Path(name)
        images = _images(options, card, terminal)
        write_contents(folder, candidates, images, card, dict(runner_files()), options.seed, terminal)
        identity = seal(folder, origin(), output)
    terminal.note(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {counted(len(candidates), 'artifact')}, "
        f"{counted(len(images.indices), 'image')}, bundle {identity[:16]}"
    )


def runner_files() -> Iterator[tuple[str, bytes]]:
    """The device runner's modules, and the measuring core that they import, by their place in the package."""
    for package in ("apps.bench.runner", "pipeline.timing"):
        for entry in sorted(files(f"rexnet_export.{package}").iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                yield f"{package.replace('.', '/')}/{entry.name}", entry.read_bytes()


def origin() -> Origin:
    """This tool; its commit where its own files are tracked by git."""
    commit = dirty = None
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is not None:
        commit = _git("rev-parse", "HEAD")
        dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return Origin(name="rexnet-export", version=version("rexnet-export"), git_commit=commit, git_dirty=dirty)


def _opened(paths: list[Path], baseline: Path | None) -> tuple[ModelCard, list[Candidate]]:
    """The artifacts with their sessions, and the card they share."""
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


def _images(options: argparse.Namespace, card: ModelCard, progress: Progress) -> Images:
    if not card.labels:
        raise DataError(f"{card.name} gives no classes: a bundle measures top-1; `rexnet-gate latency` compares speed")
    if options.eval_labels is not None and options.eval_data is None:
        raise UsageError(f"--eval-labels {options.eval_labels}: name the images' folder with --eval-data")
    if options.eval_data is None and card.labels != bundled("evaluation").class_names:
        raise DataError(f"{card.name} does not know the bundled images' labels; name your own with --eval-data")
    source = (
        open_source(
            options.eval_data,
            labelled=True,
            image_labels=options.eval_labels,
            channels=card.preprocess.channels,
        )
        if options.eval_data
        else bundled("evaluation")
    )
    return labelled_images(source, card, options.images, options.seed, progress=progress)


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
