from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.report.quantity import format_change, format_energy, format_time, printable


@pytest.mark.parametrize(
    ("energy_j", "text"),
    [
        (0.0, "0 J"),
        (1.2345e-3, "1.23 mJ"),
        (45.67e-6, "45.7 uJ"),
        (456.7e-9, "457 nJ"),
        (1e-3, "1.00 mJ"),
        (0.9999e-3, "1.00 mJ"),
        (12.0, "12.0 J"),
        (4321.0, "4.32 kJ"),
        (1e-7, "100 nJ"),
        (0.5e-9, "0.5 nJ"),
        (-2e-3, "-2.00 mJ"),
    ],
)
def test_energy_takes_the_unit_that_keeps_it_short(energy_j: float, text: str) -> None:
    assert format_energy(energy_j) == text


@settings(derandomize=True)
@given(st.floats(1e-9, 9e5))
def test_three_digits_are_kept(energy_j: float) -> None:
    number, unit = format_energy(energy_j).split()
    scale = {"kJ": 1e3, "J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9}[unit]
    assert float(number) * scale == pytest.approx(energy_j, rel=6e-3)
    assert len(number.replace(".", "")) == 3


def test_seconds_beyond_a_hundred_stay_seconds() -> None:
    assert format_time(0.0123) == "12.3 ms"
    assert format_time(1234.0) == "1,234 s"


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(2.0, 1.0, "-50.0 %"), (1.0, 1.5, "+50.0 %"), (1.0, 1.0, "="), (0.0, 1.0, "new")],
)
def test_a_change_has_a_sign(before: float, after: float, text: str) -> None:
    assert format_change(before, after) == text


def test_control_characters_of_a_model_file_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\nc\u202ed") == "a�[31mb�c�d"
