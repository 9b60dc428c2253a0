from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT


def _run(*command: str, folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command,
        capture_output=True,
        cwd=folder,
        encoding="utf-8",
        env=environment,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("01_compile_in_python.py", "is read as a"),
        ("02_write_a_pass.py", "1 changed, skipped {'the divisor is not a constant': 1}"),
    ],
)
def test_an_example_runs(name: str, part: str, tmp_path: Path) -> None:
    assert part in _run(sys.executable, str(ROOT / "examples" / name), folder=tmp_path)


@pytest.mark.torch
def test_the_example_with_a_pytorch_module_agrees_with_it(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: make check-torch")
    printed = _run(
        sys.executable, str(ROOT / "examples" / "04_pytorch_module.py"), folder=tmp_path
    )
    assert "1.conv (" in printed
    assert float(printed.rpartition(" ")[2]) < 1e-5


def test_the_energy_gate_stops_a_dearer_model(tmp_path: Path) -> None:
    script = str(ROOT / "examples" / "03_energy_gate_in_ci.sh")
    assert "costs too much energy" in _run("bash", script, folder=tmp_path)
