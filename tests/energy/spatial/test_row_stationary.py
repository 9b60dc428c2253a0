"""Accesses of the row-stationary dataflow, against published ones and against common sense."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.energy.spatial import Mapping, accesses, choose_mapping
from gcompile.energy.spatial.row_stationary import movement
from gcompile.ir import Contraction
from gcompile.targets import load_target

_EYERISS = load_target("eyeriss-like")
_LAYER = Contraction(1, 224, 224, 3, 112, 112, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1)
_PUBLISHED = Mapping(3, 3, 14, 1, 1, 8, 14, 4)


def test_the_published_mapping_has_the_published_accesses() -> None:
    """Timeloop's reference outputs of `eyeriss_like`, revision 2d55108."""
    found = accesses(_LAYER, _PUBLISHED)
    assert found.macs == 10_838_016
    assert found.cycles == 86_016
    assert found.sum_reads + found.sum_writes == pytest.approx(18_063_360)
    assert found.weight_reads + found.weight_writes == 11_031_552
    assert found.input_reads + found.input_writes == 12_192_768
    assert found.buffer_reads + found.buffer_writes == 1_913_456
    assert found.dram_weights + found.dram_inputs + found.dram_outputs == 572_528


def test_three_quarters_of_the_array_work() -> None:
    assert _PUBLISHED.elements == 126


def test_the_published_breakdown_is_met_within_a_percent() -> None:
    found = accesses(_LAYER, _PUBLISHED)
    joules = movement(found, _EYERISS)
    published = {"sums": 386.77, "weights": 1006.69, "inputs": 112.37, "buffer": 375.27,
                 "DRAM": 3380.86}  # fmt: skip
    for name, femtojoules in published.items():
        assert joules[name] / found.macs * 1e15 == pytest.approx(femtojoules, rel=0.01), name


def test_the_chosen_mapping_is_no_dearer_than_the_published_one() -> None:
    chosen = accesses(_LAYER, choose_mapping(_LAYER, _EYERISS))
    published = accesses(_LAYER, _PUBLISHED)
    assert sum(movement(chosen, _EYERISS).values()) <= sum(movement(published, _EYERISS).values())


def test_sums_over_more_channels_than_fit_go_to_the_buffer_and_come_back() -> None:
    layer = Contraction.matmul(14, 256, 16)
    narrow = accesses(layer, Mapping(1, 12, 14, 1, 1, 16, 1, 1))
    assert narrow.buffer_writes - narrow.dram_inputs == 22 * 14 * 16, "256 channels, 12 at a time"
    assert narrow.buffer_reads - narrow.input_writes == 21 * 14 * 16


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 56), st.sampled_from([1, 3, 16, 64, 256]), st.integers(1, 200),
    st.sampled_from([1, 3, 5]), st.integers(1, 2),
)  # fmt: skip
def test_every_choice_fits_and_moves_at_least_what_it_must(
    size: int, channels: int, outputs: int, kernel: int, stride: int
) -> None:
    high = (size - 1) // stride + 1
    pad = kernel // 2
    layer = Contraction(
        1, size, size, channels, high, high, outputs, kernel, kernel, stride, stride, 1, 1,
        pad, pad, pad, pad,
    )  # fmt: skip
    mapping = choose_mapping(layer, _EYERISS)
    found = accesses(layer, mapping)
    assert mapping.elements <= 12 * 14
    assert mapping.outputs_held <= 16
    assert found.dram_weights >= layer.weight_count
    assert found.dram_outputs == layer.m * layer.n
    assert found.cycles * mapping.elements >= found.macs
