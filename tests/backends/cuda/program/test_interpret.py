"""The interpreter refuses what a device would get wrong silently."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gcompile.backends.cuda.kernels import copies, fragments, group_loop, swizzle
from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS, Instruction
from gcompile.backends.cuda.program.interpret import Run, interpret
from gcompile.backends.cuda.program.matrix_statements import ShowToGroups, WaitGroup
from gcompile.backends.cuda.program.memory import AccessError
from gcompile.backends.cuda.program.program import (
    THREAD,
    Barrier,
    Buffer,
    CopyAsync,
    For,
    If,
    LoadShared,
    Program,
    Registers,
    Set,
    Statement,
    StoreGlobal,
    StoreShared,
    Wait,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    constant,
    less,
    register,
    variable,
)
from gcompile.ir import Contraction
from tests.backends.cuda.kernels.products import plain_epilogue

_VALUE = register("value", 0, "int32")
_OUT = Buffer("out", "int32", 64, written=True)


def _program(*body: Statement, threads: int = 64) -> Program:
    return Program("p", (_OUT,), (1, 1, 1), threads, 1024, (Registers("value", "int32", 1), *body))


def _run(*body: Statement) -> np.ndarray[Any, Any]:
    out = np.zeros(64, np.int32)
    interpret(_program(*body), [out])
    return out


def test_values_pass_from_thread_to_thread_through_shared_memory() -> None:
    other = (constant(63) - THREAD) * 4
    out = _run(
        StoreShared(THREAD * 4, (THREAD * 3,)),
        Barrier(),
        LoadShared((_VALUE,), other),
        StoreGlobal(_OUT, THREAD, (_VALUE,)),
    )
    np.testing.assert_array_equal(out, 3 * np.arange(63, -1, -1))


def test_reading_what_another_warp_wrote_needs_a_barrier() -> None:
    with pytest.raises(AccessError, match="load reads what was just written"):
        _run(
            StoreShared(THREAD * 4, (THREAD,)), LoadShared((_VALUE,), (constant(63) - THREAD) * 4)
        )


def test_overwriting_what_another_warp_read_needs_a_barrier() -> None:
    with pytest.raises(AccessError, match="store overwrites what was just read"):
        _run(
            StoreShared(THREAD * 4, (THREAD,)),
            Barrier(),
            LoadShared((_VALUE,), (constant(63) - THREAD) * 4),
            StoreShared(THREAD * 4, (THREAD,)),
        )


@pytest.mark.parametrize(
    ("address", "message"),
    [(THREAD * 4 + 1000, "outside the shared memory"), (THREAD * 4 + 2, "a multiple of 4 bytes")],
)
def test_shared_memory_is_accessed_where_it_exists(address: Scalar, message: str) -> None:
    with pytest.raises(AccessError, match=message):
        _run(StoreShared(address, (THREAD,)))


@pytest.mark.parametrize(
    ("index", "message"), [(THREAD + 1, "outside out"), (THREAD // 2, "written twice")]
)
def test_outputs_are_written_once_and_inside(index: Scalar, message: str) -> None:
    with pytest.raises(AccessError, match=message):
        _run(Set(_VALUE, THREAD), StoreGlobal(_OUT, index, (_VALUE,)))


def test_a_barrier_is_for_all_threads() -> None:
    with pytest.raises(AccessError, match="not reached by all threads"):
        _run(If(less(THREAD, 32), (Barrier(),)))


def test_threads_index_registers_alike() -> None:
    with pytest.raises(ValueError, match="index registers alike"):
        _run(Set(register("value", THREAD, "int32"), constant(1)))


def test_integers_do_not_overflow() -> None:
    with pytest.raises(ArithmeticError, match="overflows 32 bits"):
        _run(Set(_VALUE, (THREAD + 1) * (1 << 27)))


def test_negative_numbers_are_not_divided() -> None:
    with pytest.raises(ArithmeticError, match="not negative"):
        _run(Set(_VALUE, (THREAD - 1) // 2))


def test_lanes_that_ask_one_bank_for_different_words_wait() -> None:
    out = np.zeros(64, np.int32)
    run = interpret(_program(StoreShared(THREAD % 8 * 128 + THREAD // 8 * 4, (THREAD,))), [out])
    assert run.conflicts == {"store": 2 * 4 * 7}


def _product(instruction: Instruction | None = None) -> Program:
    product = Product(
        "gemm",
        instruction or INSTRUCTIONS["f16"],
        Contraction.matmul(32, 256, 32),
        BlockTile(32, 32, 16, 16, stages=3),
        plain_epilogue(32, 32),
        256,
        256,
    )
    (program,) = product.programs()
    return program


def _interpret(program: Program) -> tuple[Run, float]:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((32, 256)).astype(np.float16) for _ in range(2))
    y = np.zeros((32, 32), np.float32)
    run = interpret(program, [x, w, y])
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    return run, float(np.abs(y - exact).max())


def _without(body: tuple[Statement, ...], kind: type[Statement]) -> tuple[Statement, ...]:
    """Leave out the statements of one kind in the loop over the depth."""
    kept: list[Statement] = []
    for statement in body:
        if isinstance(statement, For) and statement.counter == "step":
            inner = tuple(s for s in statement.body if not isinstance(s, kind))
            kept.append(replace(statement, body=inner))
        else:
            kept.append(statement)
    return tuple(kept)


def test_the_unharmed_product_is_right_and_its_banks_never_conflict() -> None:
    run, error = _interpret(_product())
    assert error < 1e-4
    assert (run.conflicts["ldmatrix"], run.conflicts["cp.async"]) == (0, 0)
    assert run.multiplications == 2 * 4 * 16


def test_a_missing_barrier_in_the_main_loop_is_a_race() -> None:
    program = _product()
    with pytest.raises(AccessError, match="just"):
        _interpret(replace(program, body=_without(program.body, Barrier)))


def test_a_missing_wait_in_the_main_loop_reads_what_is_under_way() -> None:
    program = _product()
    with pytest.raises(AccessError, match="while a copy to it is under way"):
        _interpret(replace(program, body=_without(program.body, Wait)))


def test_without_the_swizzle_banks_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(row: Scalar, chunk: Scalar | int, row_bytes: int) -> Scalar:
        return row * row_bytes + (chunk if isinstance(chunk, Scalar) else constant(chunk)) * 16

    for user in (fragments, copies):
        monkeypatch.setattr(user, "shared_address", plain)
    run, error = _interpret(_product())
    assert error < 1e-4
    assert run.conflicts["ldmatrix"] > 0


def test_readers_and_writers_that_swizzle_differently_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def turned(row: Scalar, chunk: Scalar | int, row_bytes: int) -> Scalar:
        return swizzle.shared_address(row + 1, chunk, row_bytes) - row_bytes

    monkeypatch.setattr(copies, "shared_address", turned)
    _, error = _interpret(_product())
    assert error > 1


def test_a_wrong_fragment_of_the_left_operand_gives_wrong_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Instruction.left_parts
    monkeypatch.setattr(Instruction, "left_parts", (parts[0], parts[2], parts[1], parts[3]))
    assert _interpret(_product())[1] > 1


def test_a_wrong_fragment_of_the_right_operand_gives_wrong_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fragments, "_pair", lambda _: ((0, 0), (8, 0), (0, 16), (8, 16)))
    assert _interpret(_product())[1] > 1


def _by_groups() -> Program:
    product = Product(
        "gemm",
        INSTRUCTIONS["f16"],
        Contraction.matmul(32, 256, 32),
        BlockTile(64, 32, 16, 32, stages=3, by_groups=True),
        plain_epilogue(32, 32),
        256,
        256,
    )
    (program,) = product.programs()
    return program


def test_groups_of_warps_are_right_and_count_their_instructions() -> None:
    run, error = _interpret(_by_groups())
    assert error < 1e-4
    assert run.multiplications == 256 // 16


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ShowToGroups, "no fence has shown"),
        (WaitGroup, "overwrites what wgmma may still read"),
        (Barrier, "just written"),
        (Wait, "while a copy to it is under way"),
    ],
)
def test_groups_need_every_fence_and_wait(kind: type[Statement], message: str) -> None:
    program = _by_groups()
    with pytest.raises(AccessError, match=message):
        _interpret(replace(program, body=_without(program.body, kind)))


def test_sums_are_not_read_while_groups_add_to_them() -> None:
    program = _by_groups()
    body = tuple(s for s in program.body if not isinstance(s, WaitGroup))
    with pytest.raises(AccessError, match="sums is used while wgmma still adds"):
        _interpret(replace(program, body=body))


def test_a_wrong_descriptor_gives_wrong_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_loop, "matrix_layout", lambda _: 2 << 62 | 16 << 32)
    assert _interpret(_by_groups())[1] > 1


def test_copies_must_be_aligned() -> None:
    source = Buffer("source", "float16", 1024)
    copy = CopyAsync(THREAD * 16, source, THREAD * 8 + 4, 16)
    program = Program("p", (source,), (1, 1, 1), 32, 1024, (copy,))
    with pytest.raises(AccessError, match="a multiple of 16 bytes"):
        interpret(program, [np.zeros(1024, np.float16)])


def test_a_condition_keeps_copies_inside() -> None:
    source = Buffer("source", "float32", 32)
    copy = CopyAsync(THREAD * 4, source, THREAD, 4, less(THREAD, 32))
    program = Program("p", (source,), (1, 1, 1), 64, 1024, (copy, Wait(0)))
    interpret(program, [np.zeros(32, np.float32)])


def test_loops_count_in_python_numbers() -> None:
    step = variable("step")
    out = _run(
        Set(_VALUE, constant(0)),
        For("step", 5, (Set(_VALUE, _VALUE + step * THREAD),)),
        StoreGlobal(_OUT, THREAD, (_VALUE,)),
    )
    np.testing.assert_array_equal(out, 10 * np.arange(64))
