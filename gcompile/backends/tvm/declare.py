"""Declare functions that another object file holds, by calls that never happen.

For a function that it has not seen yet, TVM would write a declaration under another name into
every call.
"""

from __future__ import annotations

from tvm import tirx

_PREFIX = "__tvm_ffi_"
"""What TVM puts before the name of a function in the symbol of its machine code."""


def declaring_call(name: str) -> tirx.Expr:
    """A call of the function called `name`, for a branch that is never taken."""
    null = tirx.reinterpret("handle", tirx.const(0, "uint64"))
    return tirx.call_extern("int32", f"{_PREFIX}{name}", null, null, 0, null)
