"""Regressions of known size, and what the accuracy gate says of them.

    python benchmarks/gate_planted.py

Weights of a few convolutions of the bundled network get noise until the drop on all 10,000 evaluation images is about
0.3, 0.6, 1.0 and 2.0 points; ONNX Runtime runs the float graph before and after. These images are then the population:
the gate sees n of them, drawn with replacement, so that the drop on all of them is the true one. The table goes into
docs/gate.md, between its marks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import networks
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.apps.gate.accuracy.decision import Counts, Policy, decide
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.export.inputs import gather
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.graph.float_graph import write_float_onnx

DROPS = (0.003, 0.006, 0.010, 0.020)
MARGINS = (0.005, 0.010)
IMAGES = (1_000, 2_000, 5_000, 10_000)
CLOSE = 0.0005  # a planted drop this near the wanted one will do
MOST_TRIES = 8
AT_ONCE = 512
SHORT = {"pass": "pass", "pass_with_note": "pass", "fail": "fail", "fail_certain": "fail", "inconclusive": "open"}
BEGIN, END = "<!-- planted: written by benchmarks/gate_planted.py -->", "<!-- planted: end -->"


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A noised network beside the clean one: `sigma` is the noise over a weight's standard deviation in its layer."""

    layers: int
    sigma: float
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Images uint8 [n, S, S, 3], their labels, and which the clean network has right."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: NDArray[np.int64]


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--layers", type=int, default=16, help="convolutions that get noise")
    flags.add_argument("--draws", type=int, default=2_000, help="times the gate is asked for each cell")
    flags.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs" / "gate.md")
    options = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, judge = _prepared(Path(folder))
        known = [Planted(layers=options.layers, sigma=0.0, counts=_counts(judge, model))]
        planted = []
        for drop in DROPS:
            planted.append(plant(model, judge, options.layers, drop, known))
            print(
                f"{100 * drop:.1f} wanted: {100 * planted[-1].counts.drop:.2f}, sigma {planted[-1].sigma:.4f}",
                flush=True,
            )
    table = markdown(planted, options.draws)
    print(table)
    _write(options.docs, table)
    return 0


def _prepared(folder: Path) -> tuple[onnx.ModelProto, Judge]:
    inputs = gather(Options())
    images = inputs.evaluation
    assert images.labels is not None
    path = write_float_onnx(inputs.checkpoint.network, inputs.card, folder / "float.onnx").path
    pixels = np.concatenate(list(batches(images.source, inputs.card.preprocess, images.indices, 256)))
    model = onnx.load(path)
    return model, Judge(pixels=pixels, labels=images.labels, classes=_classes(model, pixels))


def plant(model: onnx.ModelProto, judge: Judge, layers: int, drop: float, known: list[Planted]) -> Planted:
    """Look for the noise that costs `drop`, between those tried so far; its direction stays, only its size changes.

    What is tried is added to `known`, which starts with no noise at all.
    """
    for _ in range(MOST_TRIES):
        best = min(known, key=lambda one: abs(one.counts.drop - drop))
        if abs(best.counts.drop - drop) < CLOSE:
            return best
        below = max((one for one in known if one.counts.drop < drop), key=lambda one: one.sigma)
        above = min((one for one in known if one.sigma > below.sigma), key=lambda one: one.sigma, default=None)
        if above is None:
            sigma = 1.5 * max(below.sigma, 0.2)
        else:
            share = (drop - below.counts.drop) / (above.counts.drop - below.counts.drop)
            sigma = below.sigma + min(max(share, 0.1), 0.9) * (above.sigma - below.sigma)
        found = Planted(layers=layers, sigma=sigma, counts=_counts(judge, noised(model, layers, sigma)))
        print(f"  sigma {sigma:.3f}: {100 * found.counts.drop:.2f} points", flush=True)
        known.append(found)
    return min(known, key=lambda one: abs(one.counts.drop - drop))


def noised(model: onnx.ModelProto, layers: int, sigma: float, seed: int = 0) -> onnx.ModelProto:
    """A copy with normal noise of `sigma` standard deviations on the weights of evenly spread convolutions."""
    random = np.random.default_rng(seed)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = [node.input[1] for node in copy.graph.node if node.op_type == "Conv"]
    chosen = {weights[place] for place in np.linspace(0, len(weights) - 1, layers + 2).astype(int)[1:-1]}
    for initializer in copy.graph.initializer:
        if initializer.name in chosen:
            values = numpy_helper.to_array(initializer)
            noise = random.standard_normal(values.shape).astype(np.float32) * np.float32(sigma * values.std())
            initializer.CopyFrom(numpy_helper.from_array(values + noise, initializer.name))
    return copy


def _counts(judge: Judge, model: onnx.ModelProto) -> Counts:
    classes = _classes(model, judge.pixels)
    right, before = classes == judge.labels, judge.classes == judge.labels
    return Counts(
        both=int((right & before).sum()),
        worse=int((~right & before).sum()),
        better=int((right & ~before).sum()),
        neither=int((~right & ~before).sum()),
        same=int((classes == judge.classes).sum()),
    )


def _classes(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        session = networks.open_onnx(path, (pixels.shape[1], pixels.shape[2]))
        logits = [session.run(pixels[start : start + AT_ONCE]) for start in range(0, len(pixels), AT_ONCE)]
    classes: NDArray[np.int64] = np.concatenate(logits).argmax(1)
    return classes


def markdown(planted: Sequence[Planted], draws: int) -> str:
    """Verdicts in percent of the draws, pass / fail / open, by margin and number of images; last, all images once."""
    columns = [(margin, images) for margin in MARGINS for images in IMAGES]
    head = [
        "true drop",
        "differ",
        *(f"margin {100 * margin:g}, n {images:,}" for margin, images in columns),
        *(f"all images, margin {100 * margin:g}" for margin in MARGINS),
    ]
    rows = [list(_row(one, columns, draws)) for one in planted]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["--"] * len(head), *rows])


def _row(planted: Planted, columns: Sequence[tuple[float, int]], draws: int) -> Iterator[str]:
    counts = planted.counts
    yield f"{100 * counts.drop:.2f}"
    yield f"{counts.discordance:.2%}"
    for margin, images in columns:
        said = verdicts(counts, margin, images, draws)
        yield " / ".join(f"{100 * said[word] / draws:.0f}" for word in ("pass", "fail", "open"))
    for margin in MARGINS:
        yield decide(counts, _policy(margin)).outcome.replace("_", " ")


def verdicts(counts: Counts, margin: float, images: int, draws: int) -> Counter[str]:
    """What the gate says of `images` images drawn with replacement, `draws` times."""
    four = np.array([counts.both, counts.worse, counts.better, counts.neither])
    drawn = np.random.default_rng(images).multinomial(images, four / four.sum(), size=draws)
    return Counter(
        SHORT[decide(Counts(both=a, worse=b, better=c, neither=d, same=images - b - c), _policy(margin)).outcome]
        for a, b, c, d in drawn.tolist()
    )


def _policy(margin: float) -> Policy:
    return Policy(margin=margin, tolerance=margin / 2)


def _write(path: Path, table: str) -> None:
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
