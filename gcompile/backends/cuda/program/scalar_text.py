"""Print expressions over the values of threads as CUDA C."""

from __future__ import annotations

from gcompile.backends.cuda.program.operations import OPERATIONS
from gcompile.backends.cuda.program.scalar import Scalar


def scalar_text(expression: Scalar) -> str:
    """Print one expression."""
    match expression.operation:
        case "constant" if expression.dtype == "float32":
            return _float_text(float(expression.value))
        case "constant" if expression.dtype == "uint32":
            return f"0x{int(expression.value):x}u"
        case "constant":
            return f"({expression.value})" if int(expression.value) < 0 else str(expression.value)
        case "variable":
            return str(expression.value)
        case "register":
            return f"{expression.value}[{scalar_text(expression.operands[0])}]"
    texts = [scalar_text(o) for o in expression.operands]
    return OPERATIONS[expression.operation].text.format(*texts)


def _float_text(value: float) -> str:
    """Print exactly, as a hexadecimal literal."""
    if value != value:
        return "__int_as_float(0x7fffffff)"
    if value in (float("inf"), float("-inf")):
        return f"__int_as_float(0x{'7' if value > 0 else 'f'}f800000)"
    return f"({value.hex()}f)" if value < 0 else f"{value.hex()}f"
