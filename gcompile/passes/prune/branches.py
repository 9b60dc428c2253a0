"""Branches beside a residual connection, y = x + f(x), that may be removed as a whole: y = x.

Where x was clipped by a Relu before, and y is after, one of the two does: what made x can then be
refitted to y before it is clipped, and take over from f what it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.prune.products import products

Stands = Mapping[str, str]
"""Values of a pruned model that stand for others of the whole one, by name."""


@dataclass(frozen=True)
class Branch:
    """One summand of a sum, with all that is computed for it alone.

    Attributes:
        name: That of its last product.
        total: The sum, by name.
        beside: The other summand, by name.
        products: Its products, by node name.
    """

    name: str
    total: str
    beside: str
    products: tuple[str, ...]


def branches(model: ir.Model) -> list[Branch]:
    """Find the branches of the main graph in the order they end; of two that join, the dearer."""
    order = {node: place for place, node in enumerate(model.graph)}
    made = {product.node for product in products(model)}
    found = []
    for node in order:
        if node.domain or node.op_type != "Add" or not _is_plain(node):
            continue
        sides = [_side(node, index, order, made) for index in (0, 1)]
        known = [side for side in sides if side is not None]
        if known:
            found.append(max(known, key=lambda side: side[0])[1])
    return found


def drop(model: ir.Model, names: Iterable[str]) -> Stands:
    """Remove branches in place.

    Returns:
        The values that take the place of a sum, each with the last sum it stands for.

    Raises:
        UsageError: The model has no such branch.
    """
    stands: dict[str, str] = {}
    for name in _in_order(model, names):
        found = {branch.name: branch for branch in branches(model)}
        if name not in found:
            raise UsageError(f"Branch {name!r} is not there any more once those before it are.")
        branch = found[name]
        total = next(n for n in model.graph if n.outputs[0].name == branch.total)
        beside = next(v for v in total.inputs if v is not None and v.name == branch.beside)
        ir.bypass(total, beside)
        ir.remove_unused(model)
        stands[str(_without_relu(beside).name)] = branch.total
    return stands


def _in_order(model: ir.Model, names: Iterable[str]) -> list[str]:
    wanted, known = set(names), [branch.name for branch in branches(model)]
    if unknown := sorted(wanted.difference(known)):
        listed = ", ".join(known) or "none"
        raise UsageError(
            f"The model has no branches called {', '.join(unknown)}. Its branches are: {listed}."
        )
    return [name for name in known if name in wanted]


def _is_plain(node: ir.Node) -> bool:
    """Whether both summands are computed, have the shape of the sum, and are not the same."""
    left, right = node.inputs
    total = node.outputs[0]
    return (
        left is not right
        and not total.is_graph_output()
        and all(
            value is not None
            and not ir.is_constant(value)
            and ir.static_shape(value) == ir.static_shape(total)
            for value in (left, right)
        )
    )


def _side(
    total: ir.Node, index: int, order: Mapping[ir.Node, int], made: set[ir.Node]
) -> tuple[int, Branch] | None:
    """The branch that one summand is made by, with its operations; None where it is none."""
    value, beside = total.inputs[index], total.inputs[1 - index]
    assert value is not None
    assert beside is not None
    own = _only_for(value, total)
    inside = sorted((node for node in own if node in made), key=lambda node: order[node])
    if not inside or not _share_a_source(own, beside):
        return None
    work = sum(c.macs for c in map(ir.contraction_of, inside) if c is not None)
    names = tuple(str(node.name) for node in inside)
    return work, Branch(names[-1], str(total.outputs[0].name), str(beside.name), names)


def _only_for(value: ir.Value, reader: ir.Node) -> set[ir.Node]:
    """The nodes that nothing needs but this operand of this reader."""
    own: set[ir.Node] = set()
    waiting = [value]
    while waiting:
        found = waiting.pop()
        node = found.producer()
        if node is None or node in own or any(v.is_graph_output() for v in node.outputs):
            continue
        uses = [use.node for v in node.outputs for use in v.uses()]
        if all(user in own or (user is reader and found is value) for user in uses):
            own.add(node)
            waiting += ir.read_by(node)
    return own


def _share_a_source(branch: set[ir.Node], beside: ir.Value) -> bool:
    """Whether what the branch reads is the other summand, or something it is computed from."""
    sources, seen, waiting = set(ir.border_of(branch)), set[ir.Value](), [beside]
    while waiting:
        value = waiting.pop()
        if value in sources:
            return True
        node = value.producer()
        if value in seen or node is None or node in branch:
            continue
        seen.add(value)
        waiting += ir.read_by(node)
    return False


def _without_relu(value: ir.Value) -> ir.Value:
    """Let the readers of a Relu read what it clips, where all of them clip again."""
    node = value.producer()
    readers = [use.node for use in value.uses()]
    if (
        node is None or node.domain or node.op_type != "Relu" or value.is_graph_output()
        or any(reader.domain or reader.op_type != "Relu" for reader in readers)
    ):  # fmt: skip
        return value
    clipped = node.inputs[0]
    assert clipped is not None
    return clipped if ir.bypass(node, clipped) is None else value
