"""Write a graph into a Relax function, region by region.

Both branches of an If are computed and the result of one is taken, so that what is launched never
depends on values: the whole inference can be captured as one CUDA graph.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import relax

from gcompile import ir
from gcompile.backends.cuda.kernel import KernelSequence
from gcompile.backends.cuda.lowering.anchor import Anchor, Operand
from gcompile.backends.cuda.lowering.attentions import AttentionCall, attentions_of
from gcompile.backends.cuda.lowering.kernel_call import KernelCall, placeholder
from gcompile.backends.cuda.lowering.recurrences import recurrence_of
from gcompile.backends.cuda.lowering.region_anchor import region_anchor
from gcompile.backends.tvm.fallback import add_fallback
from gcompile.backends.tvm.lowering.graph import region_proto
from gcompile.backends.tvm.lowering.memory import array_of
from gcompile.backends.tvm.lowering.placement import Layout, is_same_memory
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.operators import refuse_fallback
from gcompile.errors import CompileError
from gcompile.targets import Target

_BF16 = np.dtype(ml_dtypes.bfloat16)

_RESHAPE = tvm.ir.Op.get("relax.reshape")


@dataclass
class RegionWriter:
    """Writes one function.

    Attributes:
        values: The expression of each value, where it is in the order that the graph gives it.
        images: Operands as kernels read them.
        calls: What functions with `ANCHOR_ATTRIBUTE` stand for, by its value.
        fallbacks: Why a region with a product has no kernel of ours, by the region's name.
    """

    builder: relax.BlockBuilder
    target: Target
    arch: int
    values: dict[ir.Value, relax.Expr] = field(default_factory=dict)
    images: dict[Operand, relax.Expr] = field(default_factory=dict)
    calls: dict[str, KernelCall] = field(default_factory=dict)
    fallbacks: dict[str, str] = field(default_factory=dict)
    imported: int = 0

    def write(self, graph: ir.Graph) -> None:
        """Write all regions of a graph.

        Raises:
            CompileError: A region cannot be imported.
        """
        regions = ir.regions(graph)
        attentions = attentions_of(regions, self.target, self.arch)
        for region in regions:
            if region in attentions:
                found = attentions[region]
                if found is not None:
                    self._write_attention(found)
            elif region.nodes[-1].op_type == "If":
                self._write_if(region.nodes[-1])
            else:
                self._write_region(region)

    def value(self, value: ir.Value) -> relax.Expr:
        """The expression of a value; constants are put into the module."""
        if value not in self.values and ir.is_constant(value):
            array = array_of(value)
            constant = relax.const(array.astype(np.float32) if array.dtype == _BF16 else array)
            if array.dtype == _BF16:
                constant = relax.op.astype(constant, "bfloat16")
            self.values[value] = self.builder.emit(constant)
        if value not in self.values:  # An anchor wrote it with its channels last.
            image = self.images[_last_channels(value)]
            self.values[value] = self.builder.emit(self._moved(image, value, (0, 3, 1, 2)))
        return self.values[value]

    def _write_region(self, region: ir.Region) -> None:
        """Write a region by a kernel of ours, or let TVM's importer write it."""
        try:
            move = ir.stored_move(region)
            if move is not None:
                self._write_move(move)
            elif len(region.nodes) == 1 and ir.recurrence_of(region.nodes[0]) is not None:
                self._write_recurrence(region)
            else:
                self._write_anchor(self._anchor(region))
        except CannotEmitError as reason:
            # Products in fp32 have tiles of ours; tensor cores would round their operands.
            if region.anchor is not None and region.precision is not ir.Precision.FP32:
                self.fallbacks[region.name] = str(reason)
            self._import_region(region)

    def _anchor(self, region: ir.Region) -> Anchor:
        return region_anchor(
            region, self.target, self.arch, lambda value: _last_channels(value) in self.images
        )

    def _write_anchor(self, anchor: Anchor) -> None:
        operands = (anchor.x, anchor.right)
        arguments = [self._operand(operand) for operand in operands if operand is not None]
        arguments += map(relax.const, anchor.constants)
        arguments += [self._operand(source) for source in anchor.sources]
        written = _last_channels(anchor.output)
        shape = ir.static_shape(anchor.output)
        if anchor.layout is Layout.CHANNELS_LAST:
            shape = (shape[0], *shape[2:], shape[1])
        result = relax.TensorType(shape, dtype_of(anchor.output))
        call = self._call(KernelCall(anchor.sequence, anchor.operands), arguments, [result])
        if anchor.layout is Layout.CHANNELS_LAST:
            self.images[written] = call
        else:
            self.values[anchor.output] = call

    def _call(
        self, call: KernelCall, arguments: Sequence[relax.Expr], results: Sequence[Any]
    ) -> relax.Expr:
        """Call kernels of ours by a function that stands for them."""
        types = [self.builder.normalize(argument).ty for argument in arguments]
        name = f"anchor_{len(self.calls)}"
        self.calls[name] = call
        function = self.builder.add_func(placeholder(name, [*types, *results]), name)
        given = list(results) if len(results) > 1 else results[0]
        return self.builder.emit(relax.call_tir(function, list(arguments), given))

    def _write_move(self, move: ir.StoredMove) -> None:
        """Move numbers as they are stored; a reshape is no launch at all."""
        source = self.value(move.source)
        shape = ir.static_shape(move.result)
        if move.node.op_type == "Transpose":
            order = move.node.attributes.get_ints("perm", list(range(len(shape)))[::-1])
            moved = relax.op.permute_dims(source, list(order))
        else:
            moved = self._reshaped(source, shape)
        self.values[move.result] = self.builder.emit(moved)

    def _moved(
        self, expression: relax.Expr, value: ir.Value, order: tuple[int, ...]
    ) -> relax.Expr:
        """A value in another order of its axes, which is no launch where that moves nothing."""
        if not is_same_memory(ir.static_shape(value)):
            return relax.op.permute_dims(expression, order)
        shape = [int(size) for size in expression.ty.shape]
        return self._reshaped(expression, [shape[axis] for axis in order])

    def _reshaped(self, expression: relax.Expr, shape: Sequence[int]) -> relax.Expr:
        """One view of what may be a view already: two in a row would be fused into a launch."""
        is_variable = isinstance(expression, relax.Var)
        bound = self.builder.lookup_binding(expression) if is_variable else None
        if isinstance(bound, relax.Call) and bound.op.same_as(_RESHAPE):
            expression = bound.args[0]
        return relax.op.reshape(expression, shape)

    def _write_attention(self, found: AttentionCall) -> None:
        arguments = [self.value(operand.value) for operand in found.what.operands]
        masks = [self.value(mask.value) for mask in found.what.masks]
        if masks:
            arguments.append(functools.reduce(relax.op.add, masks))
        if found.numbers is not None:
            arguments.append(relax.const(found.numbers))
        output = found.what.output.value
        call = KernelCall(KernelSequence.of(found.kernel), found.operands)
        result = relax.TensorType(ir.static_shape(output), dtype_of(output))
        self.values[output] = self._call(call, arguments, [result])

    def _write_recurrence(self, region: ir.Region) -> None:
        net = recurrence_of(region)
        x, *states = [self.value(value) for value in net.inputs]
        steps, batch, depth = ir.static_shape(net.inputs[0])
        rows = relax.op.reshape(x, (steps * batch, depth))
        product = relax.op.matmul(rows, relax.const(net.projection))
        projected = self.builder.emit(relax.op.add(product, relax.const(net.bias)))
        constants = [relax.const(array) for array in net.constants]
        types = [
            relax.TensorType(ir.static_shape(value), dtype_of(value)) for value in net.outputs
        ]
        kernel = net.kernel.kernel()
        names = tuple(argument.name for argument in kernel.arguments)
        call = KernelCall(KernelSequence.of(kernel), names)
        result = self._call(call, [projected, *constants, *states], types)
        for index, value in enumerate(net.outputs):
            item = relax.TupleGetItem(result, index) if len(types) > 1 else result
            self.values[value] = self.builder.emit(item)

    def _operand(self, operand: Operand) -> relax.Expr:
        """A value in the layout that a kernel reads."""
        if operand not in self.images:
            self.images[operand] = self.builder.emit(self._laid_out(operand))
        return self.images[operand]

    def _laid_out(self, operand: Operand) -> relax.Expr:
        value, rank = operand.value, len(ir.static_shape(operand.value))
        if operand.layout is not Layout.CHANNELS_LAST:
            plain = self.value(value)
            missing = operand.channels - (ir.static_shape(value)[-1] if rank else 1)
            pads = [0] * (2 * rank - 1) + [missing]
            return relax.op.nn.pad(plain, pads, "constant", 0) if missing else plain
        plain_image = _last_channels(value)
        image = self.images.get(plain_image)
        if image is None:
            image = self._moved(self.value(value), value, (0, 2, 3, 1))
        if operand == plain_image:
            return image
        top, left, bottom, right = operand.border
        missing = operand.channels - plain_image.channels
        image = self.builder.emit(image)
        if any(operand.border):
            pads = [0, 0, top, bottom, left, right, 0, 0]
            image = self.builder.emit(relax.op.nn.pad(image, pads, "constant", operand.fill))
        return relax.op.nn.pad(image, [0] * 7 + [missing], "constant", 0) if missing else image

    def _import_region(self, region: ir.Region) -> None:
        for node in region.nodes:
            refuse_fallback(node)
        inputs = [value for value in region.inputs if not ir.is_constant(value)]
        outputs = [value for value in region.outputs if value.name]
        proto = region_proto(region, inputs, outputs)
        function = add_fallback(self.builder, proto, f"region_{self.imported}")
        self.imported += 1
        result = self.builder.emit(relax.Call(function, [self.value(v) for v in inputs]))
        for index, value in enumerate(outputs):
            item = relax.TupleGetItem(result, index) if len(outputs) > 1 else result
            self.values[value] = self.builder.emit(item)

    def _write_if(self, node: ir.Node) -> None:
        branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        for branch in branches:
            self.write(branch)
        condition = node.inputs[0]
        if condition is None:
            raise CompileError("An If node has no condition.")
        for output, *results in zip(node.outputs, *(b.outputs for b in branches), strict=True):
            shapes = {ir.static_shape(result) for result in results}
            if len(shapes) != 1:
                raise CompileError(
                    f"The branches of {node.name or 'an If'} give shapes {sorted(shapes)}, and "
                    "the shape of a value must not depend on values; rewrite the model."
                )
            chosen = [self.value(result) for result in results]
            flag = relax.op.reshape(self.value(condition), ())
            self.values[output] = self.builder.emit(relax.op.where(flag, *chosen))


def _last_channels(value: ir.Value) -> Operand:
    """An image with its channels last and nothing around it."""
    shape = ir.static_shape(value)
    return Operand(value, Layout.CHANNELS_LAST, shape[1] if len(shape) == 4 else 0)


def dtype_of(value: ir.Value) -> str:
    """The type of a value as Relax names it."""
    return str((value.dtype or ir.DataType.FLOAT).numpy().name)
