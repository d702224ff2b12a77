"""`rexnet-study rank --checkpoint`: what trained networks' features use of their channels, on real images."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.study.common.files import check_page, markdown_table, write_bytes, write_text
from rexnet_export.apps.study.rank.plots import spectrum_plot
from rexnet_export.apps.train.recipe import check
from rexnet_export.pipeline.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from rexnet_export.apps.study.rank.trained_networks import NetworkRanks
    from rexnet_export.pipeline.data.sources import ImageSource

OF_RANDOM = (
    *("kinds", "nonlinearities", "ratios", "networks", "inputs", "order"),
    *("widths", "expansion", "columns", "pixels", "sensitivity"),
)
OF_TRAINED = ("data", "images")
OUTPUT = Path("rexnet-study-out/rank-trained.md")
IMAGES = 512
CSV_HEAD = ("network", "layer", "channels", "rank", "effective_rank", "nuclear_norm", "singular_values")


def add_options(p: argparse.ArgumentParser) -> None:
    """The part of the command line that is about trained networks."""
    p.add_argument("--checkpoint", nargs="+", metavar="FILE", help="trained networks instead of random ones")
    p.add_argument("--data", type=Path, metavar="DIR", help="images for --checkpoint (default: the bundled sample)")
    p.add_argument("--images", type=int, metavar="N", help=f"how many of them (default {IMAGES})")


def refuse(options: argparse.Namespace) -> None:
    """Say which options need a checkpoint."""
    for name in OF_TRAINED:
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name} goes with --checkpoint, which looks at a trained network: add it or leave it out"
            )


def run(options: argparse.Namespace, terminal: Terminal) -> None:
    """Decompose every layer's features of every network, and write page, table and picture."""
    for name in OF_RANDOM:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is of random networks: leave it out, or leave out --checkpoint")
    count, seed = IMAGES if options.images is None else options.images, options.seed or 0
    check("images", count, "at least 1", allowed=count >= 1)
    check("seed", seed, "at least 0", allowed=seed >= 0)
    if options.tolerance is not None:
        check("tolerance", options.tolerance, "from 1e-06 to below 1", allowed=1e-6 <= options.tolerance < 1)
    # Imported late: torch alone takes seconds, and a wrong option should not wait for it.
    from rexnet_export.apps.study.rank.trained_networks import TOLERANCE, network_ranks  # noqa: PLC0415
    from rexnet_export.pipeline.data.sources import check_images, choose  # noqa: PLC0415

    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    source = _source(options.data)
    indices = choose(source, count, seed)
    if not indices:
        raise DataError(f"{source.name} has no images: name a folder of images or an idx3-ubyte file")
    check_images(source, indices)
    page: Path = options.write or OUTPUT
    check_page(page)
    found = [network_ranks(file, source, indices, tolerance, terminal) for file in options.checkpoint]
    write_text(page, document(found, source, len(indices), tolerance, page.stem))
    write_text(page.with_suffix(".csv"), table(found))
    write_bytes(page.with_suffix(".svg"), spectrum_plot(found))
    for ranks in found:
        last = ranks.stages[-1]
        terminal.out.print(
            f"{ranks.name} ({ranks.file}): last block rank {last.rank} of {last.channels}, "
            f"effective {last.effective_rank:.1f}",
            markup=False,
            soft_wrap=True,
        )
    terminal.note(f"{page}, {page.with_suffix('.csv').name} and {page.with_suffix('.svg').name} written")


def _source(data: Path | None) -> ImageSource:
    from rexnet_export.pipeline.data.sources import bundled, open_source  # noqa: PLC0415 - imports numpy

    return bundled("evaluation") if data is None else open_source(data, labelled=False)


def table(found: Sequence[NetworkRanks]) -> str:
    """Every layer of every network as CSV; singular values space-separated, largest first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for network in found:
        for layer in network.layers:
            values = " ".join(f"{value:.4g}" for value in layer.singular_values)
            norms = (f"{layer.effective_rank:.2f}", f"{layer.nuclear_norm:.4g}")
            writer.writerow((network.file, layer.layer, layer.channels, layer.rank, *norms, values))
    return text.getvalue()


def document(found: Sequence[NetworkRanks], source: ImageSource, images: int, tolerance: float, stem: str) -> str:
    """The page: what was compared, the picture, and every block."""
    summary = markdown_table(
        (
            "network",
            "file",
            "MACs",
            "parameters",
            "top-1",
            "blocks' mean effective rank / channels",
            "last nuclear norm",
        ),
        [_summary(network) for network in found],
    )
    text = (
        "# Rank of trained features\n\n"
        "Generated by `rexnet-study rank --checkpoint`. Features of each layer are a matrix of channels by\n"
        f"(images x pixels), on {images} images of {source.name}. Rank counts singular values above\n{tolerance:g} of "
        "the largest; effective rank is exp of the entropy of their shares; nuclear norm is their sum.\nEvery "
        f"layer, with its singular values, is in [{stem}.csv]({stem}.csv).\n\n![spectra]({stem}.svg)\n\n{summary}"
    )
    for network in found:
        head = (
            "block",
            "channels",
            "rank",
            "rank / channels",
            "effective rank",
            "effective / channels",
            "nuclear norm",
        )
        rows = [
            (
                layer.layer,
                str(layer.channels),
                str(layer.rank),
                f"{layer.rank / layer.channels:.2f}",
                f"{layer.effective_rank:.1f}",
                f"{layer.effective_rank / layer.channels:.3f}",
                f"{layer.nuclear_norm:.1f}",
            )
            for layer in network.stages
        ]
        text += f"\n## {network.name} ({network.file})\n\n{markdown_table(head, rows)}"
    return text


def _summary(network: NetworkRanks) -> tuple[str, ...]:
    shares = [layer.effective_rank / layer.channels for layer in network.stages]
    return (
        network.name,
        network.file,
        f"{network.cost.macs / 1e6:.1f} M",
        f"{network.cost.parameters / 1e6:.2f} M",
        "-" if network.top1 is None else f"{network.top1:.1%}",
        f"{sum(shares) / len(shares):.3f}",
        f"{network.stages[-1].nuclear_norm:.1f}",
    )
