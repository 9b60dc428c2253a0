"""The peak counts what is alive at the same time, and the workspace of kernels."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812 - how all TVMScript is written

from gcompile.backends.tvm.cache import Kernel
from gcompile.backends.tvm.kernels.function import Argument, prim_func, scratch, tasks
from gcompile.backends.tvm.memory_plan import peak_memory_bytes, workspace_bytes
from tests.backends.tvm.kernels.compiling import target
from tests.backends.tvm.regions import calling, parse

_KB = 1000 * 4
"""Bytes of the tensors below."""


def peak(graph: str) -> int:
    """Of a graph whose nodes each become a kernel."""
    module = relax.transform.InlinePrivateFunctions()(calling(parse(graph)))
    with target():
        return peak_memory_bytes(relax.get_pipeline("default")(module))


def kernel(size: int, threads: int) -> PrimFunc:
    """A kernel that gives every task a buffer of this many floats."""

    def write(buffers: list[tvm.tirx.Buffer]) -> None:
        def task(index: object) -> None:
            buffer = scratch(size, "float32")
            T.buffer_store(buffer, T.float32(0), [0])
            T.buffer_store(buffers[0], buffer[0], [index])

        tasks(threads, task)

    return prim_func("kernel", [Argument("y", (8,), "float32")], write)


def test_a_chain_needs_two_tensors_however_long_it_is() -> None:
    chain = "a = MatMul(x, w) b = MatMul(a, w) c = MatMul(b, w) d = MatMul(c, w) y = MatMul(d, w)"
    graph = f"g (float[1,1000] x, float[1000,1000] w) => (float[1,1000] y) {{ {chain} }}"
    assert peak(graph) == 2 * _KB


def test_a_value_that_is_read_late_stays_alive() -> None:
    chain = "a = MatMul(x, w) b = MatMul(a, w) c = MatMul(b, w) y = MatMul(c, w) z = Add(y, a)"
    graph = f"g (float[1,1000] x, float[1000,1000] w) => (float[1,1000] z) {{ {chain} }}"
    assert peak(graph) == 3 * _KB


def test_a_view_keeps_its_storage_alive() -> None:
    chain = (
        "a = MatMul(x, w) r = Flatten <axis = 0> (a) b = MatMul(r, w) c = MatMul(b, w) "
        "z = Add(c, r)"
    )
    graph = f"g (float[1,1000] x, float[1000,1000] w) => (float[1,1000] z) {{ {chain} }}"
    assert peak(graph) == 3 * _KB


@pytest.mark.parametrize(("threads", "expected"), [(1, 4096), (2, 2 * 4096)])
def test_every_task_has_a_workspace_of_its_own(threads: int, expected: int) -> None:
    assert workspace_bytes(kernel(1024, threads)) == expected


def test_what_fits_on_the_stack_is_no_workspace() -> None:
    assert workspace_bytes(kernel(256, 1)) == 0


def test_what_a_kernel_calls_by_name_counts_too() -> None:
    inner = Kernel.of("inner", kernel(1000, 1))

    def write(buffers: list[tvm.tirx.Buffer]) -> None:
        buffer = scratch(1000, "float32")
        T.buffer_store(buffers[0], buffer[0], [0])
        T.evaluate(T.call_cpacked(inner.symbol, buffers[0]))

    outer = prim_func("outer", [Argument("y", (8,), "float32")], write)
    builder = relax.BlockBuilder()
    function = builder.add_func(outer, "outer")
    with builder.function("main", []):
        result = builder.emit(relax.call_tir(function, [], relax.TensorType((8,), "float32")))
        builder.emit_func_output(result)
    with target():
        planned = relax.get_pipeline("default")(builder.get())
        alone = peak_memory_bytes(planned)
        assert peak_memory_bytes(planned, {inner.symbol: inner}) == alone + _KB
