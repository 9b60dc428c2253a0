"""The values of a scalar expression, for all threads of all blocks at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gcompile.backends.cuda.program.operations import OPERATIONS, Array
from gcompile.backends.cuda.program.scalar import Scalar

_LARGEST = 2**31
_CONSTANTS = {"float32": np.float32, "uint32": np.uint32}


def evaluate(
    expression: Scalar, variables: Mapping[str, Array], read: Callable[[str, int], Array]
) -> Array:
    """Evaluate for every thread.

    Args:
        expression: What to evaluate.
        variables: Named values, of shapes that broadcast to (blocks, threads).
        read: Gives the values of one register of an array by name and index.

    Returns:
        Values that broadcast to (blocks, threads).

    Raises:
        ArithmeticError: An integer leaves 32 bits, or a division's operand is negative.
    """
    match expression.operation:
        case "constant":
            return np.asarray(expression.value, _CONSTANTS.get(expression.dtype, np.int64))
        case "variable":
            return variables[str(expression.value)]
        case "register":
            index = uniform(evaluate(expression.operands[0], variables, read))
            return read(str(expression.value), index)
    operands = [evaluate(o, variables, read) for o in expression.operands]
    result = np.asarray(OPERATIONS[expression.operation].compute(*operands))
    if expression.dtype == "int32" and (np.any(result < -_LARGEST) or np.any(result >= _LARGEST)):
        raise ArithmeticError(f"{expression.operation} overflows 32 bits.")
    return result


def uniform(values: Array) -> int:
    """The one value that all threads share.

    Raises:
        ValueError: Threads disagree.
    """
    first = int(np.asarray(values).flat[0])
    if np.any(np.asarray(values) != first):
        raise ValueError("All threads must index registers alike.")
    return first
