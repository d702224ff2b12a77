"""`rexnet-study search`: which channels should a network of a given cost have, and are they on a straight line?"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.study.common.files import markdown_table, write_text
from rexnet_export.apps.train.recipe import Augmentation, Recipe, check
from rexnet_export.pipeline.core.errors import UsageError

if TYPE_CHECKING:
    from rexnet_export.apps.study.search.journal import TrialResult
    from rexnet_export.apps.study.search.search import Executor, Search

HELP = "train many channel configurations of equal cost briefly, and compare the best with the rest"
OUTPUT = Path("rexnet-study-out/search")
RECIPE = Recipe(epochs=6, batch=32, rate=0.1, average_decay=0.9, augmentation=Augmentation(crop_area=0.7, erase=0.0))
CSV_HEAD = ("rank", "configuration", "channels", "top1", "repeats", "parameters", "macs", "linearity")


def add_options(p: argparse.ArgumentParser) -> None:
    """The command line."""
    p.add_argument("--blocks", type=int, default=5, help="inverted bottlenecks (default 5)")
    p.add_argument("--parameters", type=int, default=120_000, help="limit (default 120000)")
    p.add_argument("--macs", type=int, default=6_000_000, help="limit for one image (default 6000000)")
    p.add_argument("--image-size", type=int, default=16, metavar="PX", help="(default 16)")
    p.add_argument("--configurations", type=int, default=24, help="how many to try (default 24)")
    p.add_argument("--repeats", type=int, default=1, help="trainings of each, averaged (default 1)")
    p.add_argument("--data", type=Path, metavar="DIR", help="training images (default: the bundled sample)")
    p.add_argument("--eval-data", type=Path, metavar="DIR", help="evaluation images (default: the bundled sample)")
    p.add_argument("--images", type=int, metavar="N", help="training images used (default: all)")
    p.add_argument("--eval-images", type=int, default=2000, metavar="N", help="evaluation images used (default 2000)")
    p.add_argument("--epochs", type=int, default=RECIPE.epochs, help=f"(default {RECIPE.epochs})")
    p.add_argument("--batch", type=int, default=RECIPE.batch, help=f"(default {RECIPE.batch})")
    p.add_argument("--rate", type=float, default=RECIPE.rate, help=f"peak learning rate (default {RECIPE.rate})")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--jobs", type=int, help="processes on this machine (default: its cores)")
    p.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: host:port, ray://host:port, auto or local")
    p.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help=f"(default {OUTPUT})")
    p.add_argument("--resume", action="store_true", help="go on with the killed search in the output folder")


def run(options: argparse.Namespace, terminal: Terminal) -> None:
    """Search, write `results.csv` and `search.md`, and say what the best have in common."""
    if options.jobs is not None:
        check("jobs", options.jobs, "at least 1", allowed=options.jobs >= 1)
        if options.ray is not None:
            raise UsageError(f"--jobs {options.jobs} is of this machine: leave it out, or leave out --ray")
    for name in ("images", "eval_images"):
        if (count := getattr(options, name)) is not None:
            check(name.replace("_", "-"), count, "at least 1", allowed=count >= 1)
    # Imported late: torch alone takes seconds, and a wrong option should not wait for it.
    from rexnet_export.apps.study.search.findings import findings  # noqa: PLC0415
    from rexnet_export.apps.study.search.search import run_search  # noqa: PLC0415

    search = chosen(options)
    results = run_search(search, options.output, _executor(options), terminal, resume=options.resume)
    found = findings(results)
    write_text(options.output / "results.csv", table(results))
    write_text(options.output / "search.md", document(search, results))
    terminal.out.print(f"{found.verdict}\n{found.cost}", soft_wrap=True)
    terminal.note(f"{options.output}: search.md and results.csv written")


def chosen(options: argparse.Namespace) -> Search:
    """The search that was asked for."""
    from rexnet_export.apps.study.search.channel_space import Space  # noqa: PLC0415
    from rexnet_export.apps.study.search.search import Images, Search, open_images  # noqa: PLC0415

    asked = {name: getattr(options, name) for name in ("epochs", "batch", "rate", "seed")}
    recipe = replace(RECIPE, warmup_epochs=min(1.0, options.epochs / 2), **asked)
    images = Images(
        training=None if options.data is None else options.data.absolute(),  # a cluster's processes start elsewhere
        evaluation=None if options.eval_data is None else options.eval_data.absolute(),
        training_images=options.images,
        evaluation_images=options.eval_images,
        seed=options.seed,
    )
    labels = open_images(images)[0].class_names
    assert labels is not None, "images are opened with labels"
    space = Space(
        blocks=options.blocks,
        parameters=options.parameters,
        macs=options.macs,
        image_size=options.image_size,
        classes=len(labels),
    )
    return Search(space=space, recipe=recipe, images=images, trials=options.configurations, repeats=options.repeats)


def _executor(options: argparse.Namespace) -> Executor:
    from rexnet_export.apps.study.search.executors import on_ray, on_this_machine  # noqa: PLC0415

    return on_this_machine(options.jobs) if options.ray is None else on_ray(options.ray)


def table(results: Sequence[TrialResult]) -> str:
    """All configurations, best first."""
    from rexnet_export.apps.study.search.channel_space import linearity  # noqa: PLC0415

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for rank, r in enumerate(_best_first(results), 1):
        row = (rank, r.index, "-".join(map(str, r.channels)), f"{r.mean:.4f}", len(r.top1))
        writer.writerow((*row, r.parameters, r.macs, f"{linearity(r.channels):.4f}"))
    return text.getvalue()


def _best_first(results: Sequence[TrialResult]) -> list[TrialResult]:
    return sorted(results, key=lambda result: (-result.mean, result.index))


def document(search: Search, results: Sequence[TrialResult]) -> str:
    """The page: limits, groups, verdict, all configurations."""
    from rexnet_export.apps.study.search.channel_space import linearity  # noqa: PLC0415
    from rexnet_export.apps.study.search.findings import findings  # noqa: PLC0415

    found, space, recipe = findings(results), search.space, search.recipe
    groups = [
        (
            g.name,
            str(g.size),
            f"{g.top1:.2%}",
            f"{g.spread:.2%}",
            f"{g.linearity:.3f}",
            f"{g.parameters:,.0f}",
            f"{g.macs:,.0f}",
            g.example,
        )
        for g in found.groups
    ]
    rows = [
        (
            str(rank),
            "-".join(map(str, r.channels)),
            f"{r.mean:.2%}",
            f"{r.parameters:,}",
            f"{r.macs:,}",
            f"{linearity(r.channels):.3f}",
        )
        for rank, r in enumerate(_best_first(results), 1)
    ]
    return (
        "# Channel search\n\n"
        "Generated by `rexnet-study search`: c_i = a f(i) + b with f piecewise linear and never falling, and the "
        f"largest a\nthat the limits allow. {len(results)} configurations of {space.blocks} inverted bottlenecks, at "
        "most "
        f"{space.parameters:,} parameters and {space.macs:,}\nmultiply-accumulates at {space.image_size} px; "
        f"{recipe.epochs} epochs each, {search.repeats} time(s). Linearity is R² of the straight line through the "
        "channels.\n\n"
        + markdown_table(("group", "size", "top-1", "spread", "linearity", "parameters", "MACs", "example"), groups)
        + f"\n{found.verdict}\n\n{found.cost}\n\n"
        + markdown_table(("rank", "channels", "top-1", "parameters", "MACs", "linearity"), rows)
    )
