from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

import gcompile
from gcompile.cli.app import COMMANDS
from tests.cli.conftest import Outcome

Call = Callable[..., Outcome]


def test_importing_gcompile_loads_none_of_the_heavy_libraries() -> None:
    script = (
        "import sys, gcompile, gcompile.cli\n"
        "heavy = {'torch', 'tvm', 'tvm_ffi', 'onnxruntime', 'onnx', 'onnx_ir', 'scipy', 'numpy'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_can_be_had() -> None:
    for name in gcompile.__all__:
        assert getattr(gcompile, name) is not None
    assert set(gcompile.__all__) <= set(dir(gcompile))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = gcompile.no_such_name


def test_the_version_is_the_one_of_the_package(call: Call) -> None:
    assert call("--version").out == f"gcompile {gcompile.__version__}\n"


def test_without_arguments_the_help_is_shown(call: Call) -> None:
    outcome = call()
    assert outcome.code == 0
    for command in COMMANDS:
        assert command in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call: Call, command: str) -> None:
    outcome = call(command, "--help")
    assert outcome.code == 0
    assert "Usage: gcompile" in outcome.out


def test_a_misspelt_command_is_not_taken_for_a_model(call: Call) -> None:
    outcome = call("bulid")
    assert outcome.code == 2
    assert "Did you mean `gcompile build`?" in outcome.err
