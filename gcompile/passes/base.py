"""What a pass is, and how passes are put together."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.energy import EnergyModel, Estimate, estimate
from gcompile.errors import PassError
from gcompile.targets import Target

Arrays = Mapping[str, NDArray[np.generic]]
"""One array per model input or output."""

Runner = Callable[[ir.Model, Arrays], dict[str, NDArray[np.generic]]]
"""Runs a model on one batch of inputs and returns its outputs by name."""

Gradients = Callable[
    [ir.Model, Arrays, NDArray[np.generic] | None, int], Iterator[dict[str, NDArray[np.float32]]]
]
"""Yields for each row of (model, rows, labels, seed) the gradient of its loss by every weight."""


class Numerics(Enum):
    """How far a pass may move the outputs of a model."""

    EXACT = "bit for bit the same"
    ROUNDING = "the same real numbers, rounded in another order"
    LOSSY = "different on purpose, within an accuracy budget"


NO_SAVING = "it saves no joules on this target"

Check = Callable[[ir.Model], str | None]
"""Looks at a model and returns what is wrong with it, or None."""


@dataclass(frozen=True)
class Skip:
    """Why a pass left a node alone."""

    reason: str


@dataclass(frozen=True)
class PassContext:
    """All that a pass may know besides the model. Passed by hand, never global.

    Attributes:
        calibration: Rows the user gave, one array per model input with rows along axis 0; None
            when there are none. A pass never invents data.
        labels: One label for each of these rows, where the user gave labels too.
        run: Runs a model on inputs, for passes that must see values; None when not available.
        gradients: Finds gradients, for passes that ask for them; None when not available.
        skipped: Counts refusals by (pass, reason); `Pass.apply` moves them into the record.
        keeps_ledger: Whether the model is priced after every pass that changed it. Without a
            ledger the estimates in records are those of the start, except where a pass must save.
    """

    target: Target
    energy: EnergyModel
    seed: int = 0
    threads: int = 1
    calibration: Arrays | None = None
    run: Runner | None = None
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    keeps_ledger: bool = True
    labels: NDArray[np.generic] | None = None
    gradients: Gradients | None = None


@dataclass(frozen=True)
class PassRecord:
    """What happened when a pass ran: the ledger's entry.

    Attributes:
        changed: Rewrites made; none where they were undone.
        skipped: How often each reason kept the pass from a rewrite.
        before: The whole model's estimate before the pass.
        after: The same after it.
        kept: False when the pass was reverted because it did not pay on this target.
        pricing_s: Seconds that this entry took, besides those of the pass.
    """

    name: str
    changed: int
    seconds: float
    before: Estimate
    after: Estimate
    skipped: Mapping[str, int] = field(default_factory=dict)
    kept: bool = True
    steps: tuple[PassRecord, ...] = ()
    pricing_s: float = 0.0

    @property
    def leaves(self) -> tuple[PassRecord, ...]:
        """The records of single passes, in the order they ran."""
        if not self.steps:
            return (self,)
        return tuple(leaf for step in self.steps for leaf in step.leaves)


@dataclass(frozen=True)
class Pass(ABC):
    """A named rewrite of a model. Its fields are its options.

    The contract, checked for every pass by `gcompile.testing.check_pass`: the model is valid
    before and after; outputs move no further than `numerics` allows; a second run changes nothing;
    the number returned is the number of rewrites made; no state is kept between runs; every
    refusal has a reason.
    """

    name: ClassVar[str]
    numerics: ClassVar[Numerics]
    requires: ClassVar[tuple[Check, ...]] = ()
    must_save: ClassVar[bool] = False
    """Whether the pass is undone where the model takes as many joules after it as before."""

    @abstractmethod
    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Rewrite the model in place and return how many rewrites were made."""

    @final
    def apply(
        self, model: ir.Model, ctx: PassContext, before: Estimate | None = None
    ) -> PassRecord:
        """Run the pass, holding it to its contract; `before` saves pricing the model again."""
        for check in self.requires:
            if complaint := check(model):
                raise PassError(f"Pass {self.name!r} cannot run: {complaint}")
        before = before or estimate(model, ctx.target, ctx.energy, ctx.threads)
        original = model.clone() if self.must_save else None
        start = time.perf_counter()
        changed = self.run(model, ctx)
        seconds = time.perf_counter() - start
        if changed:
            ir.verify(model)
        start = time.perf_counter()
        is_priced = changed and (ctx.keeps_ledger or self.must_save)
        after = estimate(model, ctx.target, ctx.energy, ctx.threads) if is_priced else before
        pricing_s = time.perf_counter() - start
        skipped = {
            reason: ctx.skipped.pop((name, reason))
            for name, reason in list(ctx.skipped)
            if name == self.name
        }
        if original is not None and changed and after.total.energy_j >= before.total.energy_j:
            model.graph = original.graph
            skipped[NO_SAVING] = changed
            return PassRecord(
                self.name, 0, seconds, before, before, skipped, kept=False, pricing_s=pricing_s
            )
        return PassRecord(self.name, changed, seconds, before, after, skipped, pricing_s=pricing_s)


@dataclass(frozen=True)
class NodePass(Pass):
    """A pass that looks at one node at a time, in every graph and subgraph."""

    ops: ClassVar[frozenset[str]]

    def matches(self, node: ir.Node) -> bool:
        """Say whether the pass is meant for the node: only what it is meant for can be refused."""
        return True

    @abstractmethod
    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Rewrite the node, or return why not."""

    @final
    def run(self, model: ir.Model, ctx: PassContext) -> int:
        changed = 0
        for node in ir.all_nodes(model):
            if node.domain or node.op_type not in self.ops or not self.matches(node):
                continue
            if skip := self.rewrite(node, ctx):
                ctx.skipped[self.name, skip.reason] += 1
            else:
                changed += 1
        return changed


@dataclass(frozen=True)
class Pipeline:
    """Passes in order, repeated until nothing changes or `repeat` is spent."""

    name: str
    passes: tuple[Pass | Pipeline, ...]
    repeat: int = 1

    def apply(
        self, model: ir.Model, ctx: PassContext, before: Estimate | None = None
    ) -> PassRecord:
        """Run every pass; the record keeps one step per pass and round that did something."""
        before = before or estimate(model, ctx.target, ctx.energy, ctx.threads)
        start = time.perf_counter()
        latest = before
        steps: list[PassRecord] = []
        for round_ in range(self.repeat):
            changed = 0
            for step in self.passes:
                record = step.apply(model, ctx, latest)
                latest, changed = record.after, changed + record.changed
                if round_ == 0 or record.changed:
                    steps.append(record)
            if not changed:
                break
        total = sum(record.changed for record in steps)
        pricing_s = sum(record.pricing_s for record in steps)
        seconds = time.perf_counter() - start - pricing_s
        return PassRecord(
            self.name, total, seconds, before, latest, {}, True, tuple(steps), pricing_s
        )
