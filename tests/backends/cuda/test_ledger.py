"""What was emitted is priced launch by launch."""

from __future__ import annotations

import pytest

from gcompile.backends.cuda.kernel import Access, Argument, Kernel
from gcompile.backends.cuda.launches import Copy, Program, Role, Value
from gcompile.backends.cuda.ledger import emitted
from gcompile.targets import load_target

A100 = load_target("nvidia-a100")


def _kernel(unit: str, operations: int, blocks: int = 1000) -> Kernel:
    arguments = (Argument("x", "float32", 256), Argument("y", "float32", 256, Access.WRITE))
    return Kernel(
        "k", "", (blocks, 1, 1), (128, 1, 1), arguments, unit=unit, operations=operations
    )


def _program(*kernels: Kernel) -> Program:
    program = Program()
    for kernel in kernels:
        program.launch(kernel, [Value(1024, Role.INPUT), Value(1024)])
    return program


def test_every_launch_is_paid_for() -> None:
    one = emitted(_program(_kernel("cuda-core", 0)), A100)
    two = emitted(_program(*[_kernel("cuda-core", 0)] * 2), A100)
    assert (one.launches, two.launches) == (1, 2)
    assert two.cost.time_s == pytest.approx(2 * one.cost.time_s)
    assert one.cost.time_s > A100.launch_s
    assert (one.bytes, two.bytes) == (2048, 4096)


def test_tensor_cores_take_less_for_the_same_operations() -> None:
    plain = emitted(_program(_kernel("cuda-core", 10**12)), A100)
    dense = emitted(_program(_kernel("tensor-core-bf16", 10**12)), A100)
    assert (plain.tensor_launches, dense.tensor_launches) == (0, 1)
    assert dense.cost.time_s < plain.cost.time_s / 4
    assert dense.cost.compute_j < plain.cost.compute_j / 4


def test_copies_count_and_narrow_launches_are_told() -> None:
    program = _program(_kernel("cuda-core", 0, blocks=7))
    program.actions.append(Copy(Value(64, Role.OUTPUT), Value(64)))
    found = emitted(program, A100)
    assert (found.launches, found.narrow_launches) == (2, 1)
    assert found.bytes == 2048 + 128
