"""Cut a long function that calls kernels into parts that follow each other.

LLVM's time grows with the square of a function's length: one of 2,500 calls takes 40 s, and 25 of
100 calls take one. Everything that such a function keeps from one statement to the next is in the
virtual machine's registers, which every part is handed.
"""

from __future__ import annotations

from tvm import tirx

PART = 128
"""Statements of one part: a call of a kernel is four, with the allocation of its result."""


def in_parts(
    name: str, function: tirx.PrimFunc, most: int = PART
) -> tuple[tirx.PrimFunc, dict[str, tirx.PrimFunc]]:
    """Move runs of statements into functions of their own.

    Args:
        name: What the function is called; its parts are called after it.
        function: Straight-line code whose statements share only the function's parameters.
        most: Statements that a function may have to be left as it is, and those of one part.

    Returns:
        The function, which calls its parts in order, and the parts by name.
    """
    body = function.body
    statements = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    if len(statements) <= most or any(_defines(statement) for statement in statements):
        return function, {}
    parts: dict[str, tirx.PrimFunc] = {}
    for start in range(0, len(statements), most):
        symbol = f"{name}_part_{len(parts)}"
        part = function.with_body(tirx.stmt_seq(*statements[start : start + most]))
        parts[symbol] = part.with_attr("global_symbol", symbol)
    calls = [tirx.Evaluate(tirx.call_cpacked(symbol, *function.params)) for symbol in parts]
    return function.with_body(tirx.stmt_seq(*calls)), parts


def _defines(statement: tirx.Stmt) -> bool:
    """Whether later statements may use what this one names."""
    return not isinstance(statement, (tirx.Evaluate, tirx.IfThenElse))
