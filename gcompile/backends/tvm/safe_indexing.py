"""Legalize lookups so that no index, whatever a caller sends, reads outside a tensor.

TVM's default trusts indices, and a token beyond the vocabulary would end the process. ONNX leaves
such an index undefined; here it reads the nearest element there is.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax, topi

Legalization = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def legalizations() -> dict[str, Legalization]:
    """What to pass to `relax.transform.LegalizeOps`."""
    return {"relax.take": _take, "relax.gather_elements": _gather_elements}


def _take(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    data, indices = call.args
    return builder.call_te(topi.take, data, indices, call.attrs.axis, mode="clip")


def _gather_elements(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    data, indices = call.args
    axis = int(call.attrs.axis)
    last = int(data.ty.shape[axis]) - 1

    def gather(values: object, places: object) -> object:
        return topi.gather(values, axis, topi.clip(places, 0, last))

    return builder.call_te(gather, data, indices, primfunc_name_hint="gather_elements")
