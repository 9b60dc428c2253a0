"""Legalize elementary functions to vector code instead of calls into the C library.

`LegalizeOps` would turn exp into a call of `expf`, one element at a time. Here each function
becomes the arithmetic of `kernels.vector_math`, which every vectoriser can widen, to about 1e-6
relative error in float32. float16 is computed in float32; float64 keeps the library's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
import tvm_ffi
from tvm import relax, te, tirx, topi
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as script

from gcompile.backends.tvm.kernels import vector_math
from gcompile.backends.tvm.kernels.lanes import Lanes

Legalization = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]

_UNARY = {
    "relax.exp": "exp",
    "relax.log": "log",
    "relax.erf": "erf",
    "relax.tanh": "tanh",
    "relax.sigmoid": "sigmoid",
    "relax.nn.silu": "silu",
    "relax.nn.gelu": "gelu",
    "relax.nn.gelu_tanh": "gelu_tanh",
}
"""Relax operators of one operand, and the function of `vector_math` that each is."""

_DEFAULT_SOFTPLUS = (1.0, 20.0)


def legalizations() -> dict[str, Legalization]:
    """What to pass to `relax.transform.LegalizeOps`."""
    table: dict[str, Legalization] = {
        operator: _elementwise(operator, function) for operator, function in _UNARY.items()
    }
    table["relax.nn.softplus"] = _softplus
    table["relax.nn.softmax"] = _softmax
    table["relax.nn.log_softmax"] = _log_softmax
    table["relax.power"] = _power
    return table


def apply(function: str, x: tirx.Expr, dtype: str = "float32") -> tirx.Expr:
    """The scalar expression of a function of `vector_math`, for use in tensor expressions.

    The result has the type of `x`, `dtype`.
    """
    wide = x if dtype == "float32" else tirx.Cast("float32", x)
    with IRBuilder() as builder, script.prim_func(s_tir=True):
        script.func_name(function)
        script.evaluate(vector_math.UNARY[function](script.Bind(wide), Lanes(1), 0.0, 0.0))
    value = _as_expression(builder.get().body.seq)
    return value if dtype == "float32" else tirx.Cast(dtype, value)


def _as_expression(statements: Sequence[tirx.Stmt]) -> tirx.Expr:
    """Turn statements that name values, the last of which is the result, into let-expressions.

    A value is named by a binding, or by the one store into a local buffer.
    """
    names: dict[tirx.Buffer, tirx.Var] = {}

    def renamed(expression: tirx.Expr) -> tirx.Expr:
        named = (tvm.ir.TensorLoad, lambda read: names.get(read.source, read))
        return tvm_ffi.structural_map(expression, named)

    bindings: list[tuple[tirx.Var, tirx.Expr]] = []
    for statement in statements:
        if isinstance(statement, tirx.BufferStore):
            value = renamed(statement.value)
            names[statement.buffer] = tirx.Var("value", str(statement.buffer.dtype))
            bindings.append((names[statement.buffer], value))
        elif not isinstance(statement, tirx.Evaluate | tirx.AllocBuffer):
            bindings.append((statement.var, renamed(statement.value)))
    result = renamed(statements[-1].value)
    for variable, value in reversed(bindings):
        result = tirx.Let(variable, value, result)
    return result


def _elementwise(operator: str, function: str) -> Legalization:
    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        if not _is_short_float(call.args[0]):
            return _default(operator, builder, call)

        def compute(x: te.Tensor) -> te.Tensor:
            return te.compute(
                x.shape, lambda *i: apply(function, x(*i), str(x.dtype)), name=function
            )

        return builder.call_te(compute, call.args[0], primfunc_name_hint=function)

    return legalize


def _softplus(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    if (float(call.attrs.beta), float(call.attrs.threshold)) != _DEFAULT_SOFTPLUS:
        return _default("relax.nn.softplus", builder, call)
    return _elementwise("relax.nn.softplus", "softplus")(builder, call)


def _softmax(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    if not _is_short_float(call.args[0]):
        return _default("relax.nn.softmax", builder, call)

    def compute(x: te.Tensor) -> te.Tensor:
        axis = int(call.attrs.axis)
        powers = _exp_of_difference(x, topi.max(_wide(x), axis, keepdims=True))
        shares = topi.divide(powers, topi.sum(powers, axis, keepdims=True))
        return topi.cast(shares, x.dtype)

    return builder.call_te(compute, call.args[0], primfunc_name_hint="softmax")


def _log_softmax(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    if not _is_short_float(call.args[0]):
        return _default("relax.nn.log_softmax", builder, call)

    def compute(x: te.Tensor) -> te.Tensor:
        axis = int(call.attrs.axis)
        largest = topi.max(_wide(x), axis, keepdims=True)
        total = topi.sum(_exp_of_difference(x, largest), axis, keepdims=True)
        logarithm = te.compute(total.shape, lambda *i: apply("log", total(*i)), name="log")
        return topi.cast(_wide(x) - largest - logarithm, x.dtype)

    return builder.call_te(compute, call.args[0], primfunc_name_hint="log_softmax")


def _power(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Small whole exponents and the square root need no `powf`; the rest keeps it."""
    base, exponent = call.args
    number = _scalar_constant(exponent)
    whole = number is not None and number.is_integer() and 1 <= number <= 4
    shape = tuple(base.ty.shape or ())
    if not _is_short_float(base) or not (whole or number == 0.5) or shape != _shape(call):
        return _default("relax.power", builder, call)

    def value(x: tirx.Expr) -> tirx.Expr:
        if number == 0.5:
            return tirx.sqrt(x)
        result = x
        for _ in range(int(number or 1) - 1):
            result = result * x
        return result

    def compute(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *i: value(x(*i)), name="power")

    return builder.call_te(compute, base, primfunc_name_hint="power")


def _exp_of_difference(x: te.Tensor, largest: te.Tensor) -> te.Tensor:
    difference = topi.subtract(_wide(x), largest)
    return te.compute(x.shape, lambda *i: apply("exp", difference(*i)), name="powers")


def _default(operator: str, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Legalize as TVM does."""
    return tvm.ir.Op.get(operator).get_attr("FLegalize")(builder, call)


def _is_short_float(x: relax.Expr) -> bool:
    return str(x.ty.dtype) in ("float32", "float16")


def _wide(x: te.Tensor) -> te.Tensor:
    return x if x.dtype == "float32" else topi.cast(x, "float32")


def _shape(x: relax.Expr) -> tuple[int, ...]:
    return tuple(x.ty.shape or ())


def _scalar_constant(x: relax.Expr) -> float | None:
    if not isinstance(x, tvm.ir.GenericConst):
        return None
    values = x.value.numpy()
    return float(values.reshape(())) if values.size == 1 else None
