"""What was emitted is priced launch by launch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cuda_static import optimized
from benchmarks.networks import network, save
from gcompile.backends.cuda.kernel import Access, Argument, Kernel, Traffic
from gcompile.backends.cuda.launches import Copy, Program, Role, Value
from gcompile.backends.cuda.ledger import emitted
from gcompile.backends.cuda.lowering.model import lower_model
from gcompile.compiler.estimate import estimate
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


def test_bytes_are_counted_on_the_level_where_tiles_move_them() -> None:
    kernel = _kernel("tensor-core-bf16", 10**6)
    plain = emitted(_program(kernel), A100).cost
    tiled = emitted(_program(replace(kernel, traffic=Traffic(1e6, 1e5))), A100).cost
    inner, shared, dram = A100.memories
    for level, count in ((inner, 1e6), (shared, 1e5)):
        assert tiled.movement_j[level.name] == pytest.approx(count * level.byte_j, rel=0.2)
        assert tiled.movement_j[level.name] > plain.movement_j[level.name]
    assert tiled.movement_j[dram.name] == plain.movement_j[dram.name]


def test_processors_without_a_block_take_no_part() -> None:
    many = emitted(_program(_kernel("tensor-core-bf16", 10**12, blocks=A100.processors)), A100)
    one = emitted(_program(_kernel("tensor-core-bf16", 10**12, blocks=1)), A100)
    assert one.cost.time_s > 10 * many.cost.time_s


def test_the_estimate_of_a_model_and_what_is_emitted_for_it_agree(tmp_path: Path) -> None:
    """Within the error that the device's own description states."""
    path = tmp_path / "squeezenet.onnx"
    save(network("squeezenet"), path)
    device = load_target("nvidia-h100-sxm")
    before = estimate(path, device.name, precision="bf16").total
    _, stage = optimized(path, device.name, "bf16")
    after = emitted(lower_model(stage.model, device, 90).program, device).cost
    assert after.energy_j == pytest.approx(before.energy_j, rel=device.relative_error)
    assert after.time_s == pytest.approx(before.time_s, rel=device.relative_error)
    assert after.compute_j == pytest.approx(before.compute_j, rel=0.1)
