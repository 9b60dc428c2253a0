"""The generic schedule finds the vectors and the threads, and gives up without harm."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax, te, tirx

from gcompile.backends.tvm import fast_math
from gcompile.backends.tvm.schedule import CpuSchedule
from tests.backends.tvm.kernels.compiling import target


def _function(outputs: te.Tensor, *inputs: te.Tensor) -> tirx.PrimFunc:
    return te.create_prim_func([*inputs, outputs])


def _row_sum(rows: int, columns: int) -> tirx.PrimFunc:
    x = te.placeholder((rows, columns), "float32", name="x")
    k = te.reduce_axis((0, columns), name="k")
    return _function(te.compute((rows,), lambda i: te.sum(x[i, k], axis=k)), x)


def _column_sum(rows: int, columns: int) -> tirx.PrimFunc:
    x = te.placeholder((rows, columns), "float32", name="x")
    k = te.reduce_axis((0, rows), name="k")
    return _function(te.compute((columns,), lambda j: te.sum(x[k, j], axis=k)), x)


def _map(rows: int, columns: int) -> tirx.PrimFunc:
    x = te.placeholder((rows, columns), "float32", name="x")
    return _function(te.compute((rows, columns), lambda i, j: x[i, j] * 2.0), x)


def _transpose(rows: int, columns: int) -> tirx.PrimFunc:
    x = te.placeholder((columns, rows), "float32", name="x")
    return _function(te.compute((rows, columns), lambda i, j: x[j, i]), x)


FUNCTIONS = {"map": _map, "row sum": _row_sum, "column sum": _column_sum}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_innermost_loop_becomes_vectors(name: str) -> None:
    text = CpuSchedule(lanes=8, threads=1).apply(FUNCTIONS[name](64, 96)).script()
    assert "T.vectorized(8)" in text
    assert "T.parallel" not in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_outermost_loops_are_shared_out_when_there_are_threads(name: str) -> None:
    assert "T.parallel" in CpuSchedule(8, threads=2).apply(FUNCTIONS[name](64, 96)).script()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_no_vector_divides_stays_scalar(name: str) -> None:
    assert "T.vectorized" not in CpuSchedule(8, 1).apply(FUNCTIONS[name](7, 7)).script()


def test_strided_reads_are_not_vectors() -> None:
    assert "T.vectorized" not in CpuSchedule(8, 1).apply(_transpose(64, 96)).script()


def test_attributes_survive() -> None:
    function = _map(4, 8).with_attr("global_symbol", "name")
    assert CpuSchedule(8, 1).apply(function).attrs["global_symbol"] == "name"


def test_functions_with_sizes_known_only_at_run_time_are_left_alone() -> None:
    n = te.var("n", "int64")
    x = te.placeholder((n,), "float32", name="x")
    function = _function(te.compute((n,), lambda i: x[i] + 1.0), x)
    assert "T.vectorized" not in CpuSchedule(8, 1).apply(function).script()


def test_the_lanes_are_those_of_the_target() -> None:
    assert CpuSchedule.for_target(target("x86-64-v3"), 2) == CpuSchedule(8, 2)
    assert CpuSchedule.for_target(target("x86-64-v4"), 1) == CpuSchedule(16, 1)
    arm = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu"})
    assert CpuSchedule.for_target(arm, 1) == CpuSchedule(4, 1)


def test_legalized_softmax_is_scheduled() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 64), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.nn.softmax(x)))
    module = relax.transform.LegalizeOps(fast_math.legalizations())(builder.get())
    text = CpuSchedule(8, 1).apply(module["softmax"]).script()
    loops = ["x_red_rf", "powers", "powers_red_rf", "compute"]
    assert text.count("T.vectorized(T.int64(8))") >= len(loops)
