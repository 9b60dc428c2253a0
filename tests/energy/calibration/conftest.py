"""Networks that are saved and counted once."""

from pathlib import Path

import pytest

from gcompile import ir
from gcompile.energy.calibration import Observation
from tests.energy.calibration.boards import counted, save_networks


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def networks(files: dict[str, Path]) -> dict[str, Observation]:
    return counted(files, ir.Precision.FP32)
