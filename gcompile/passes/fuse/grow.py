"""Grow regions around products, pools and rows, from moves, and back from the end of a chain.

A region is safe to run as one kernel when only its last node's value leaves it. Then nothing that
is read from outside can depend on the region itself, and running regions in the order of their
last nodes never reads a value before it exists.
"""

from __future__ import annotations

import heapq

import numpy as np

from gcompile import ir
from gcompile.passes.fuse.operators import COPIES, Kind, fits_after, fits_after_batch, kind_of

_LOOK_AHEAD = 24
"""How many nodes may lie between a value with several readers and the node where they meet."""


class Regions:
    """The regions of one graph while they grow. Every node belongs to one at most.

    Attributes:
        found: Regions of two nodes and more, each with the node it is named after.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._position = {node: index for index, node in enumerate(graph)}
        self._kind = {node: kind_of(node) for node in self._position}
        self._claimed: set[ir.Node] = set()
        self.found: list[tuple[ir.Node, list[ir.Node]]] = []

    def grow_all(self) -> None:
        """Grow from products first, the latest first.

        A sum of two products so belongs to the one that runs last, which finds the result of the
        other in memory.
        """
        latest_first = list(reversed(self._position))
        for kind in (Kind.PRODUCT, Kind.POOL):
            for node in latest_first:
                if self._kind[node] is kind:
                    self._claim(node, self._with_followers(node))
        for node in latest_first:
            if self._kind[node] is Kind.ROW:
                self._claim(node, self._around_row(node))
        for node in latest_first:
            if self._kind[node] is Kind.MOVE:
                self._claim(node, self._with_storage(node))
        for node in latest_first:
            if self._kind[node] in (Kind.ELEMENTWISE, Kind.ENCODE) and node not in self._claimed:
                self._claim(node, self._with_elementwise_before(node))

    def _claim(self, name_giver: ir.Node, nodes: set[ir.Node]) -> None:
        self._claimed |= nodes
        if len(nodes) > 1:
            ordered = sorted(nodes, key=self._position.__getitem__)
            self.found.append((name_giver, ordered))

    def _with_followers(self, anchor: ir.Node) -> set[ir.Node]:
        """The anchor, what can be computed on its result in passing, and its decoders."""
        inside, tail = {anchor} | self._moves_before(anchor), anchor
        while steps := self._until_paths_meet(tail):
            grown = inside | set(steps)
            if not all(self._follows(node, anchor, grown) for node in steps):
                if len(steps) == 1 and self._is_free(steps[0], Kind.ENCODE):
                    inside = grown
                break
            inside, tail = grown, steps[-1]
        return inside | self._decoders(inside)

    def _follows(self, node: ir.Node, anchor: ir.Node, inside: set[ir.Node]) -> bool:
        """Say whether a node can be computed on the anchor's result in passing."""
        if ir.is_batched_product(anchor):
            if node in self._claimed or self._kind[node] in (Kind.ENCODE, Kind.DECODE):
                return False
            return fits_after_batch(node, anchor, inside)
        return self._is_free(node, Kind.ELEMENTWISE) and fits_after(node, anchor, inside)

    def _moves_before(self, anchor: ir.Node) -> set[ir.Node]:
        """The moves of a dynamic product's operands that the product can do by reading in place.

        A view that nothing inside moves further costs nothing outside either, and stays there.
        """
        found: set[ir.Node] = set()
        if not ir.is_batched_product(anchor):
            return found
        for value in anchor.inputs[:2]:
            moves: set[ir.Node] = set()
            while value is not None and (node := value.producer()) in self._position:
                inside = found | moves | {node, anchor}
                is_free = node.op_type in ir.STRIDED_MOVES and self._is_free(node, Kind.MOVE)
                if not is_free or not self._is_read_only_by(node, inside):
                    break
                if ir.batched_product(anchor, inside) is None:
                    break
                moves.add(node)
                if node.op_type == "Transpose":
                    found |= moves
                value = node.inputs[0]
        return found

    def _around_row(self, anchor: ir.Node) -> set[ir.Node]:
        """What can be computed on the rows in passing, before they are read and after."""
        after = self._with_followers(anchor)
        return after | self._with_elementwise_before(anchor)

    def _until_paths_meet(self, node: ir.Node) -> list[ir.Node]:
        """The nodes on all paths from the node's value to the first node that all paths cross.

        Empty where the value leaves the graph, or the paths do not meet soon.
        """
        steps: list[ir.Node] = []
        if self._leaves(node):
            return []
        pending = set(node.outputs[0].consumers())
        while pending and len(steps) < _LOOK_AHEAD:
            step = min(pending, key=self._position.__getitem__)
            pending.remove(step)
            steps.append(step)
            if not pending:
                return steps
            if self._leaves(step):
                return []
            pending.update(step.outputs[0].consumers())
        return []

    def _leaves(self, node: ir.Node) -> bool:
        """The value is an output of the graph, or a branch inside the graph reads it."""
        value = node.outputs[0]
        return value.is_graph_output() or any(n not in self._position for n in value.consumers())

    def _is_free(self, node: ir.Node, kind: Kind) -> bool:
        return self._kind[node] is kind and node not in self._claimed

    def _is_read_only_by(self, node: ir.Node, inside: set[ir.Node]) -> bool:
        value = node.outputs[0]
        return not value.is_graph_output() and inside.issuperset(value.consumers())

    def _decoders(self, inside: set[ir.Node]) -> set[ir.Node]:
        """The decoders that only this region reads, and the rounding of decoded weights."""
        producers = {value.producer() for n in inside for value in n.inputs if value is not None}
        found = {
            node
            for node in producers
            if node in self._position
            and self._is_free(node, Kind.DECODE)
            and self._is_read_only_by(node, inside)
        }
        for anchor in inside:
            path = ir.weight_path(anchor) if ir.weight_decoder(anchor) is not None else []
            reads = dict(zip(path, [anchor, *path], strict=False))
            if all(
                node in self._position
                and node not in self._claimed
                and self._is_read_only_by(node, {reader})
                for node, reader in reads.items()
            ):
                found.update(path)
        return found

    def _with_storage(self, move: ir.Node) -> set[ir.Node]:
        """A move works on stored numbers; views and transposes only where scales are the same."""
        encoder = ir.only_reader(move.outputs[0])
        tensors = move.inputs if move.op_type == "Concat" else move.inputs[:1]
        decoders = [value.producer() if value is not None else None for value in tensors]
        if encoder is None or not self._is_free(encoder, Kind.ENCODE):
            return {move}
        for node in decoders:
            if node not in self._position or not self._is_free(node, Kind.DECODE):
                return {move}
            if not self._is_read_only_by(node, {move}):
                return {move}
            if move.op_type not in COPIES and not _same_storage(node, encoder):
                return {move}
        return {move, encoder, *(node for node in decoders if node is not None)}

    def _with_elementwise_before(self, tail: ir.Node) -> set[ir.Node]:
        """The tail and every elementwise node whose readers all lead to it.

        Nodes are looked at latest first, so when one is reached all its readers are decided.
        """
        inside, seen = {tail}, {tail}
        shape = ir.static_shape(tail.outputs[0])
        pending: list[tuple[int, ir.Node]] = []
        self._push_producers(tail, pending, seen)
        while pending:
            node = heapq.heappop(pending)[1]
            if not self._is_read_only_by(node, inside):
                continue
            if self._is_free(node, Kind.DECODE):
                inside.add(node)
            elif self._is_free(node, Kind.ELEMENTWISE) and _has_shape(node, shape):
                inside.add(node)
                self._push_producers(node, pending, seen)
        return inside

    def _push_producers(
        self, node: ir.Node, pending: list[tuple[int, ir.Node]], seen: set[ir.Node]
    ) -> None:
        for producer in node.predecessors():
            if producer in self._position and producer not in seen:
                seen.add(producer)
                heapq.heappush(pending, (-self._position[producer], producer))


def _has_shape(node: ir.Node, shape: tuple[int, ...]) -> bool:
    return ir.static_shape(node.outputs[0]) == shape


def _same_storage(decoder: ir.Node, encoder: ir.Node) -> bool:
    """Both are casts, or both use one scale and zero point of one type."""
    if decoder.op_type == "Cast" or encoder.op_type == "Cast":
        return decoder.op_type == encoder.op_type
    stored = decoder.inputs[0]
    if stored is None or stored.dtype is not encoder.outputs[0].dtype:
        return False
    return all(_equal_numbers(decoder, encoder, slot) for slot in (1, 2))


def _equal_numbers(a: ir.Node, b: ir.Node, slot: int) -> bool:
    """Compare a scalar parameter; a zero point that is left out is zero."""
    found = []
    for node in (a, b):
        value = node.inputs[slot] if slot < len(node.inputs) else None
        array = np.zeros(1) if value is None else ir.constant_array(value)
        if array is None or array.size != 1:
            return False
        found.append(float(array.reshape(-1)[0]))
    return found[0] == found[1]
