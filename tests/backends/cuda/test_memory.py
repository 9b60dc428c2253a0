"""Values share memory only while they do not live together."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.cuda.launches import Copy, Role, Value, Zero
from gcompile.backends.cuda.memory import ALIGNMENT_BYTES, plan_arena

_lives = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(1, 5000)), min_size=1, max_size=12
)


@given(lives=_lives)
def test_values_that_live_together_do_not_overlap(lives: list[tuple[int, int, int]]) -> None:
    values = [Value(size) for _, _, size in lives]
    actions = [
        Zero(value)
        for time in range(18)
        for value, (start, span, _) in zip(values, lives, strict=True)
        if time in (start, start + span)
    ]
    arena = plan_arena(actions)
    used = {
        value: [time for time, action in enumerate(actions) if action.target is value]
        for value in values
    }
    for one, other in itertools.combinations(values, 2):
        meet = used[one][0] <= used[other][-1] and used[other][0] <= used[one][-1]
        start, end = arena.offsets[one], arena.offsets[one] + one.bytes
        apart = arena.offsets[other] >= end or arena.offsets[other] + other.bytes <= start
        assert apart or not meet
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in arena.offsets.values())
    assert max(arena.offsets[value] + value.bytes for value in values) <= arena.bytes


def test_inputs_and_weights_have_memory_of_their_own() -> None:
    inner = Value(100)
    actions = [Copy(inner, Value(100, Role.INPUT)), Copy(Value(100, Role.OUTPUT), inner)]
    assert plan_arena(actions).bytes == ALIGNMENT_BYTES
