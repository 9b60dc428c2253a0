"""Predict what a model costs on a target, and say where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gcompile import ir
from gcompile.energy.cost import Cost
from gcompile.targets import Target

_WITH_GRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})


@dataclass(frozen=True)
class Estimate:
    """What one inference should cost, region by region. `by` names the model that said so.

    An estimate is a prediction: a reading of a meter has another type.

    Attributes:
        boundary: What the joules include: `chip`, `board` or `wall`.
        idle_policy: `full` charges the static power of the time the inference takes.
        relative_error: Half-width of the band: the truth lies between total / (1 + e) and
            total · (1 + e).
        ratio_error: The same for the ratio of two estimates on one device, where errors of power
            cancel.
        places: Where in a PyTorch module the regions come from, where that is asked for.
    """

    by: str
    boundary: str
    idle_policy: str
    total: Cost
    per_region: dict[str, Cost] = field(default_factory=dict)
    relative_error: float = 0.0
    ratio_error: float = 0.0
    places: Mapping[str, ir.Place] = field(default_factory=dict)

    @property
    def low_j(self) -> float:
        """Lower end of the band, in joules."""
        return self.total.energy_j / (1 + self.relative_error)

    @property
    def high_j(self) -> float:
        """Upper end of the band, in joules."""
        return self.total.energy_j * (1 + self.relative_error)


class EnergyModel(Protocol):
    """Anything that predicts a cost. A meter measures one: the two are never mixed."""

    @property
    def name(self) -> str: ...

    def for_model(self, model: ir.Model) -> EnergyModel:
        """Return the model of energy that knows what surrounds each region of `model`."""

    def at(self, precision: ir.Precision | None) -> EnergyModel:
        """Return the model of energy that prices every region as if it ran in `precision`."""

    def filtered(self) -> EnergyModel:
        """Return the model of energy that prices products by the algorithm that costs least."""

    def price(self, region: ir.Region, target: Target, threads: int) -> Cost:
        """Price one region; cheap enough for a pass to ask before each rewrite."""

    def price_merged(self, regions: Sequence[ir.Region], target: Target) -> dict[str, Cost]:
        """Price regions of one graph that are emitted with others, or not at all, by name."""


def estimate(model: ir.Model, target: Target, energy: EnergyModel, threads: int = 1) -> Estimate:
    """Price every region of the model and add up.

    A branch that may or may not run (`If`) is charged for its dearest alternative, and a loop for
    the most rounds that it may have where a constant says so, else for one.
    """
    per_region = _price_graph(model.graph, target, energy.for_model(model), threads)
    return Estimate(
        energy.name,
        target.boundary,
        "full",
        Cost.total(per_region.values()),
        per_region,
        target.relative_error,
        target.ratio_error,
    )


def _rounds(node: ir.Node) -> int:
    """The most rounds of a loop, where they are known."""
    count = ir.constant_array(node.inputs[0]) if node.op_type == "Loop" else None
    return 1 if count is None else max(int(count.reshape(-1)[0]), 1)


def _price_graph(
    graph: ir.Graph, target: Target, energy: EnergyModel, threads: int
) -> dict[str, Cost]:
    regions = ir.regions(graph)
    costs = energy.price_merged(regions, target)
    for region in regions:
        if region.name in costs:
            continue
        branches = [
            _price_graph(attr.as_graph(), target, energy, threads)
            for node in region.nodes
            if node.op_type in _WITH_GRAPHS
            for attr in node.attributes.values()
            if attr.type is ir.AttributeType.GRAPH
        ]
        if branches:
            dearest = max(branches, key=lambda b: sum(c.energy_j for c in b.values()))
            rounds = max(_rounds(node) for node in region.nodes)
            costs.update({name: cost.times(rounds) for name, cost in dearest.items()})
        costs[region.name] = energy.price(region, target, threads)
    return costs
