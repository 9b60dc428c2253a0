"""Calls of plain kernels, on tensors in their logical order."""

from __future__ import annotations

from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.plain.code import PlainCode, dtype_of, is_there


def write_plain(code: PlainCode, memory: Memory) -> None:
    """Emit the kernel of a node."""
    node, emission = code.node, memory.emission
    name = f"plain_{node.op_type.lower()}_{len(emission.builder.get().get_global_vars())}"
    function = emission.builder.add_func(code.function(name), name)
    arguments = [memory.plain(value) for value in code.inputs]
    outputs = [value for value in node.outputs if is_there(value)]
    types = [relax.TensorType(ir.static_shape(value), dtype_of(value)) for value in outputs]
    result = emission.emit(relax.call_tir(function, arguments, types if types[1:] else types[0]))
    for index, value in enumerate(outputs):
        item = emission.emit(relax.TupleGetItem(result, index)) if types[1:] else result
        memory.put_rows(value, item)
