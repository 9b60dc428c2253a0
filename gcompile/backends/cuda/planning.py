"""A program with every value given its place: what an artefact stores."""

from __future__ import annotations

from collections.abc import Sequence

from gcompile.backends.cuda.launches import Action, Copy, Launch, Program, Role, Value, Zero
from gcompile.backends.cuda.memory import Arena, plan_arena
from gcompile.runtime.cuda.plan import Code, Place, Plan, PlannedKernel, Space, Step

_SPACES: dict[Role, Space] = {
    Role.ARENA: "arena",
    Role.INPUT: "input",
    Role.OUTPUT: "output",
    Role.WEIGHT: "weight",
}


def plan_of(program: Program, codes: Sequence[Code] = (), driver: int = 0) -> Plan:
    """Give values their places in memory.

    Args:
        program: What runs.
        codes: The kernels as machine code, in the order of `program.kernels`.
        driver: The oldest driver that loads the code, as CUDA numbers it.
    """
    arena = plan_arena(program.actions)
    index = {kernel.name: number for number, kernel in enumerate(program.kernels)}
    return Plan(
        arena_bytes=arena.bytes,
        kernels=tuple(
            PlannedKernel(k.name, k.grid, k.block, k.dynamic_shared_bytes) for k in program.kernels
        ),
        steps=tuple(_step(action, index, arena) for action in program.actions),
        codes=tuple(codes),
        driver=driver,
    )


def _step(action: Action, kernels: dict[str, int], arena: Arena) -> Step:
    match action:
        case Launch():
            places = tuple(_place(value, arena) for value in action.values)
            return Step("launch", kernels[action.kernel.name], places)
        case Copy():
            return Step("copy", 0, (_place(action.target, arena), _place(action.source, arena)))
        case Zero():
            return Step("zero", 0, (_place(action.target, arena),))


def _place(value: Value, arena: Arena) -> Place:
    if value.role is Role.ARENA:
        return Place("arena", arena.offsets[value], value.bytes)
    return Place(_SPACES[value.role], value.index, value.bytes)
