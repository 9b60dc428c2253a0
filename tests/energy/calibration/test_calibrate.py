"""Calibration on boards whose truth is known."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import ir
from gcompile.energy import Roofline, estimate
from gcompile.energy.calibration import TERMS, Observation, calibrated
from gcompile.errors import UsageError
from gcompile.targets import Target, load_target, write_target
from tests.energy.calibration.boards import BASE, measured, residual, separable, true_costs


def _predicted(target: Target, network: Observation) -> float:
    assert target.calibration is not None
    costs = target.calibration.sets[0].energy_j
    return sum(amount * costs[term].value for term, amount in network.amounts.items())


@pytest.mark.parametrize("seed", range(4))
def test_a_known_board_is_recovered(networks: dict[str, Observation], seed: int) -> None:
    rows = measured(networks, true_costs(seed), noise=0.01, seed=seed)
    target = calibrated(BASE, rows, "test")
    errors = [_predicted(target, row) / row.row.energy_j - 1 for row in rows]
    assert np.abs(errors).mean() < 0.03
    assert target.calibration is not None
    assert target.calibration.sets[0].fold_error < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_a_family_that_was_never_measured_is_predicted(
    networks: dict[str, Observation], seed: int
) -> None:
    rows = measured(networks, true_costs(seed), noise=0.01, seed=seed)
    seen = [row for row in rows if row.row.model.startswith("separable")]
    target = calibrated(BASE, seen, "test")
    unseen = [row for row in rows if row not in seen]
    errors = [_predicted(target, row) / row.row.energy_j - 1 for row in unseen]
    assert np.abs(errors).mean() < 0.25


def test_held_out_errors_are_told_by_fold_and_by_family(
    networks: dict[str, Observation],
) -> None:
    rows = measured(networks, true_costs(0), noise=0.02)
    both = calibrated(BASE, rows, "test").calibration
    one = calibrated(BASE, rows[::2], "test").calibration
    assert both is not None
    assert one is not None
    assert both.sets[0].family_error is not None
    assert both.sets[0].family_error > both.sets[0].fold_error
    assert one.sets[0].family_error is None, "rows of one architecture say nothing of others"


def test_coefficients_lie_in_their_intervals_and_are_never_negative(
    networks: dict[str, Observation],
) -> None:
    target = calibrated(BASE, measured(networks, true_costs(1), noise=0.03), "test")
    assert target.calibration is not None
    (found,) = target.calibration.sets
    assert set(found.energy_j) == set(TERMS) == set(found.time_s)
    assert all(0 <= c.low <= c.high and c.value >= 0 for c in found.energy_j.values())
    products = found.energy_j["products"]
    assert products.low <= products.value <= products.high


def test_a_noisy_board_says_that_it_is_less_certain(networks: dict[str, Observation]) -> None:
    quiet, loud = (
        calibrated(BASE, measured(networks, true_costs(2), noise=noise), "test")
        for noise in (0.01, 0.2)
    )
    assert loud.relative_error > 2 * quiet.relative_error


def test_a_calibrated_target_survives_its_file(
    networks: dict[str, Observation], tmp_path: Path
) -> None:
    target = calibrated(BASE, measured(networks, true_costs(0)), "24 rows of rows.csv")
    write_target(target, tmp_path / "board.toml")
    again = load_target(tmp_path / "board.toml")
    assert again == target
    assert again.calibration == target.calibration
    assert again.calibrated
    assert again.boundary == "wall"
    assert 'source = "24 rows of rows.csv"' in (tmp_path / "board.toml").read_text()


def test_layers_add_up_to_the_total_everywhere_a_target_is_priced(
    networks: dict[str, Observation],
) -> None:
    rows = measured(networks, true_costs(3))
    target = calibrated(BASE, rows, "test")
    for build, name in ((separable, "separable-32-16"), (residual, "residual-32-16")):
        found = gcompile.estimate(build(32, 16), target)
        layers = sum(cost.energy_j for cost in found.per_region.values())
        assert found.total.energy_j == pytest.approx(layers)
        assert found.total.energy_j == pytest.approx(_predicted(target, networks[name]), rel=1e-6)
        assert found.total.time_s == pytest.approx(found.total.energy_j / 5, rel=0.05)
        assert found.boundary == "wall"


def test_without_times_seconds_stay_those_of_the_base(networks: dict[str, Observation]) -> None:
    rows = [
        dataclasses.replace(o, row=dataclasses.replace(o.row, time_s=None))
        for o in measured(networks, true_costs(0))
    ]
    target = calibrated(BASE, rows, "test")
    model = separable(32, 16)
    assert gcompile.estimate(model, target).total.time_s == pytest.approx(
        gcompile.estimate(model, BASE).total.time_s
    )


def test_a_precision_without_rows_differs_as_the_base_says(
    networks: dict[str, Observation],
) -> None:
    base = load_target("generic-arm64-dotprod")
    target = calibrated(base, measured(networks, true_costs(0)), "test")
    model = residual(32, 32)
    ratios = []
    for device in (base, target):
        wide, narrow = (
            gcompile.estimate(model, device, precision=p).total.energy_j for p in ("fp32", "int8")
        )
        ratios.append(narrow / wide)
    assert ratios[1] == pytest.approx(ratios[0], rel=0.15)


def test_a_bad_tile_still_costs_more_on_a_calibrated_target(
    networks: dict[str, Observation],
) -> None:
    target = calibrated(BASE, measured(networks, true_costs(0)), "test")
    model = residual(32, 32)
    ir.assign_region(next(iter(model.graph)), "first")
    region = ir.regions(model.graph)[0]
    before = Roofline().price(region, target, 1)
    ir.set_tile(region, ir.Tile(BASE.unit_for(ir.Precision.FP32).name, 1, 1))
    assert Roofline().price(ir.regions(model.graph)[0], target, 1).energy_j > before.energy_j


def test_rows_of_a_file_become_a_target(files: dict[str, Path], tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    _write_rows(rows, {name: 0.1 + 0.01 * i for i, name in enumerate(files)})
    target = gcompile.calibrate("generic-arm64", rows, next(iter(files.values())).parent)
    assert target.calibration is not None
    assert target.calibration.source == "24 rows of rows.csv"
    model = next(iter(files.values()))
    assert estimate(ir.load(model), target, Roofline()).total.energy_j > 0


def test_a_model_that_is_missing_is_named(files: dict[str, Path]) -> None:
    folder = next(iter(files.values())).parent
    rows = [{"model": "elsewhere", "energy_j": 1.0}]
    with pytest.raises(UsageError, match=r"No file 'elsewhere.onnx' .* drop the row"):
        gcompile.calibrate("generic-arm64", rows, folder)
    with pytest.raises(UsageError, match="does not exist"):
        gcompile.calibrate("generic-arm64", rows, folder / "none")


def test_too_few_rows_cannot_determine_the_coefficients(
    networks: dict[str, Observation],
) -> None:
    with pytest.raises(UsageError, match="5 rows of fp32 cannot determine"):
        calibrated(BASE, measured(networks, true_costs(0))[:5], "test")


def test_models_of_one_size_are_refused(networks: dict[str, Observation]) -> None:
    rows = [row for row in measured(networks, true_costs(0)) if row.row.model.endswith("32-16")]
    with pytest.raises(UsageError, match="about the same size"):
        calibrated(BASE, [rows[0]] * 8, "test")


def test_rows_that_differ_in_scale_only_are_singular(networks: dict[str, Observation]) -> None:
    network = measured(networks, true_costs(0))[0]
    rows = [
        dataclasses.replace(
            network,
            row=dataclasses.replace(network.row, energy_j=k * network.row.energy_j, time_s=None),
            amounts={term: k * amount for term, amount in network.amounts.items()},
        )
        for k in range(1, 9)
    ]
    with pytest.raises(UsageError, match="singular: their models differ in scale only"):
        calibrated(BASE, rows, "test")


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e-3])
def test_energies_that_are_no_joules_betray_themselves_by_their_power(
    networks: dict[str, Observation], factor: float
) -> None:
    rows = [
        dataclasses.replace(o, row=dataclasses.replace(o.row, energy_j=factor * o.row.energy_j))
        for o in measured(networks, true_costs(0))
    ]
    with pytest.raises(UsageError, match=r"draws about .* W at full load: units are mixed up"):
        calibrated(BASE, rows, "test")


def test_one_row_in_millijoules_is_found(networks: dict[str, Observation]) -> None:
    rows = measured(networks, true_costs(0))
    rows[7] = dataclasses.replace(
        rows[7], row=dataclasses.replace(rows[7].row, energy_j=1e3 * rows[7].row.energy_j)
    )
    with pytest.raises(UsageError, match=f"{rows[7].row.model}.*units are mixed up"):
        calibrated(BASE, rows, "test")


def test_accelerators_are_not_calibrated(networks: dict[str, Observation]) -> None:
    accelerator = dataclasses.replace(BASE, kind="accelerator")
    with pytest.raises(UsageError, match="estimates only"):
        calibrated(accelerator, measured(networks, true_costs(0)), "test")


def _write_rows(path: Path, energies: dict[str, float]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("model", "energy_j"))
        writer.writerows(energies.items())
