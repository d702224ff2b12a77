"""Mixed precision as a last resort: the fewest multiply-accumulates left in float that keep the network's answers.

Judged without labels: the share of held-back images whose top-1 class is not the float network's, which no drop in
accuracy on them can exceed. A choice among many that looks at a few images finds one that is lucky on them, so what is
to be expected of their margins and noise together must keep the bound as well. The search is a bounded number of
simulations and depends on nothing but its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Fraction, Text
from rexnet_export.quantization.onnx.simulate import Logits, Simulator, sqnr_db
from rexnet_export.quantization.onnx.view import GraphView, view
from rexnet_export.quantization.scheme.insert_qdq import QdqGraphs
from rexnet_export.quantization.scheme.scheme import WEIGHTED
from rexnet_export.quantization.search.float_islands import with_islands
from rexnet_export.quantization.table.table import QuantTable

PROBE_PIXELS, FEWEST_PROBES = 2**18, 12  # images that each unit is ranked on: 64 at 64 px, 12 at 224
EXACT = 1e-9  # what rounding may add to a share


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Of the judge's images: how many have another top-1 class than in float, and the share to be expected."""

    images: int
    changed: int
    expected: float

    def within(self, bound: float) -> bool:
        """Whether neither exceeds a share of the images."""
        return self.changed <= bound * self.images + EXACT and self.expected <= bound + EXACT

    def __str__(self) -> str:
        """In words, with both figures."""
        return (
            f"{self.changed} of {self.images} held-back images have another top-1 class than in float "
            f"({self.expected:.2%} expected)"
        )


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What goes into float together, by output name: a layer with what follows it up to the next; its MACs."""

    name: str
    nodes: tuple[str, ...]
    macs: int


@dataclass(frozen=True, kw_only=True)
class FloatUnit:
    """A unit that stays in float, its share of all multiply-accumulates, and why."""

    name: Text
    mac_fraction: Fraction
    reason: Text


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The table with what had to stay in float, and what changed with all in INT8 and with these units in float."""

    table: QuantTable
    units: tuple[FloatUnit, ...]
    int8: Changes
    mixed: Changes
    simulations: int

    @property
    def float_mac_fraction(self) -> float:
        """Share of the multiply-accumulates that stay in float."""
        return sum(unit.mac_fraction for unit in self.units)


def units(model: onnx.ModelProto) -> tuple[Unit, ...]:
    """The pieces of a network that are in float or in INT8, in graph order.

    A convolution or product with what follows it: SiLU, residual addition, clamp. Squeeze and excitation belong to the
    layer they gate: they are all but free, and its output is quantized as long as one of its readers is.
    """
    graph = view(model)
    macs = _macs(model, graph)
    home: dict[str, int] = {}
    pooled: set[str] = set()
    members: list[list[str]] = []
    for node in graph.nodes:
        name = node.output[0]
        sources = [source for source in node.input if source in home]
        if node.op_type == "GlobalAveragePool" or (sources and pooled.issuperset(sources)):
            pooled.add(name)
        if node.op_type == "Gemm" or (node.op_type == "Conv" and name not in pooled):
            home[name] = len(members)
            members.append([name])
        elif sources:
            home[name] = max(home[source] for source in sources)
            members[home[name]].append(name)
    return tuple(
        Unit(name=names[0], nodes=tuple(names), macs=sum(macs.get(name, 0) for name in names)) for names in members
    )


def _macs(model: onnx.ModelProto, graph: GraphView) -> dict[str, int]:
    """Multiply-accumulates of one image by output name: weights times the positions they are applied at."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    return {
        node.output[0]: graph.constant(node, 1).size * math.prod(shapes[node.output[0]][2:])
        for node in graph.nodes
        if node.op_type in WEIGHTED
    }


def leave_in_float(
    model: onnx.ModelProto,
    table: QuantTable,
    judge: Simulator,
    bound: float,
    tried: Callable[[], None] = lambda: None,
) -> Mixed:
    """The table with the fewest MACs in float for which at most `bound` of the judge's images change their class.

    Units are ranked by the noise each alone in INT8 makes, per MAC, the others in float: noise adds up there, while a
    network that has collapsed looks the same with any one unit mended. The shortest list of them that reaches the bound
    is found by bisection; then each is given back that can be. `tried` is called after each simulation.
    """
    search = _Search(model, table, judge, bound, tried)
    everything = units(model)
    before = search.changes(())
    if before.within(bound):
        return search.result(everything, {})
    least = search.changes([unit.name for unit in everything])
    if not least.within(bound):
        raise ConversionError(
            f"a drop of {bound:.2%} is out of reach even with every layer in float, where {least}; allow more, or "
            "export fp16 or fp32"
        )
    kept, reasons = search.given_back(search.shortest(search.ranked(everything)), everything)
    if len(kept) == len(everything):
        raise ConversionError(
            f"a drop of {bound:.2%} is out of reach in INT8, where {before}: no layer can leave float; allow more, or "
            "export fp16 or fp32"
        )
    return search.result(everything, reasons)


def changes(reference: Logits, logits: Logits) -> Changes:
    """Compare top-1 classes of logits [N, classes], and see what to expect of margins and noise together.

    Each image's margins, from its best class to every other by rank, are set against each image's noise in the same
    differences, both in standard deviations of that image's logits: N x N trials in place of N.
    """
    order = np.argsort(-reference, axis=1, kind="stable")
    ranked, found = (np.take_along_axis(values.astype(np.float64), order, axis=1) for values in (reference, logits))
    scale = np.maximum(reference.std(axis=1, dtype=np.float64), np.finfo(np.float32).tiny)[:, None]
    margins = (ranked[:, :1] - ranked[:, 1:]) / scale
    noise = margins - (found[:, :1] - found[:, 1:]) / scale
    expected = float(np.mean([(noise > margin).any(axis=1).mean() for margin in margins]))
    changed = int((reference.argmax(axis=1) != logits.argmax(axis=1)).sum())
    return Changes(images=len(reference), changed=changed, expected=expected)


class _Search:
    """Simulations of sets of units in float; each set is simulated once."""

    def __init__(
        self, model: onnx.ModelProto, table: QuantTable, judge: Simulator, bound: float, tried: Callable[[], None]
    ) -> None:
        self._bound = bound
        self._model, self._table, self._judge, self._tried = model, table, judge, tried
        self._graphs = QdqGraphs(model)
        self._nodes = {unit.name: unit.nodes for unit in units(model)}
        self._known: dict[frozenset[str], Changes] = {}
        self._simulations = 0

    def changes(self, names: Collection[str]) -> Changes:
        """What changes with these units in float."""
        key = frozenset(names)
        if key not in self._known:
            self._known[key] = changes(self._judge.reference, self._logits(key, self._judge))
        return self._known[key]

    def _logits(self, names: Collection[str], judge: Simulator) -> Logits:
        quantized = self._graphs.of(self._mixed(dict.fromkeys(names, "tried")), "uint8")
        self._simulations += 1
        logits = judge.logits(quantized)
        self._tried()
        return logits

    def _mixed(self, reasons: Mapping[str, str]) -> QuantTable:
        by_node = {node: reason for name, reason in reasons.items() for node in self._nodes[name]}
        return with_islands(self._model, self._table, by_node)

    def ranked(self, everything: tuple[Unit, ...]) -> list[str]:
        """Names of the units, most noise for each MAC first."""
        pixels = math.prod(self._judge.images.shape[1:3])
        few = self._judge.first(max(FEWEST_PROBES, PROBE_PIXELS // pixels))

        def noise_per_mac(unit: Unit) -> float:
            others = [other.name for other in everything if other is not unit]
            noise = math.pow(10.0, -sqnr_db(few.reference, self._logits(others, few)) / 10.0)
            return noise / max(unit.macs, 1)

        return [unit.name for unit in sorted(everything, key=noise_per_mac, reverse=True)]

    def shortest(self, ranked: list[str]) -> list[str]:
        """A beginning of the list that reaches the bound, where one unit fewer does not."""
        low, high = 0, len(ranked)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.changes(ranked[:middle]).within(self._bound) else (middle, high)
        return ranked[:high]

    def given_back(self, names: list[str], everything: tuple[Unit, ...]) -> tuple[list[str], dict[str, str]]:
        """What is left when each unit has been tried in INT8 again, most MACs first; and what each of these costs."""
        macs = {unit.name: unit.macs for unit in everything}
        total = sum(macs.values())
        kept, reasons = list(names), dict[str, str]()
        for name in sorted(names, key=lambda name: -macs[name]):
            without = [other for other in kept if other != name]
            found = self.changes(without)
            if found.within(self._bound):
                kept = without
                continue
            reasons[name] = (
                f"with {name} in INT8 too, {found}, where {self._bound:.2%} may; it has {macs[name] / total:.1%} of "
                "the multiply-accumulates"
            )
        return kept, reasons

    def result(self, everything: tuple[Unit, ...], reasons: Mapping[str, str]) -> Mixed:
        """What was found, units in graph order."""
        total = sum(unit.macs for unit in everything)
        return Mixed(
            table=self._mixed(reasons),
            units=tuple(
                FloatUnit(name=unit.name, mac_fraction=unit.macs / total, reason=reasons[unit.name])
                for unit in everything
                if unit.name in reasons
            ),
            int8=self.changes(()),
            mixed=self.changes(list(reasons)),
            simulations=self._simulations,
        )
