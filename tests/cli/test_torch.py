"""PyTorch modules on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gcompile
from tests.cli.conftest import Outcome

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: make check-torch")

pytestmark = pytest.mark.torch

Call = Callable[..., Outcome]

SOURCE = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    print("making it")
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

def with_inputs():
    return small(), (torch.zeros(1, 6),)

class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids, mask):
        return (self.table(ids) * mask[..., None]).sum(1)

class ByValue(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x
"""


@pytest.fixture
def nets(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a Python module in the folder that commands run in."""
    name = f"nets_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_factory_is_built_and_built_again_from_its_configuration(call: Call, nets: str) -> None:
    built = call(f"{nets}:small", "--input-shape", "1,6", "-o", "out", "--format", "json")
    assert built.code == 0, built.err
    layers = json.loads(built.out)["layers"]
    assert {layer["module"] for layer in layers} == {"0", "2"}
    assert call("build", "--config", "out/config.resolved.toml", "-o", "again").code == 0
    x = np.ones((1, 6), np.float32)
    torch.manual_seed(0)
    first, second = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)
    wanted = second(torch.relu(first(torch.from_numpy(x)))).detach().numpy()
    for folder in ("out", "again"):
        found = gcompile.runtime.load(folder).run({"input": x})["output"]
        assert np.allclose(np.asarray(found, np.float32), wanted, rtol=1e-5, atol=1e-5)


def test_the_folder_is_called_after_the_factory(call: Call, nets: str) -> None:
    assert "wrote with_inputs-cpu" in call(f"{nets}:with_inputs").err


def test_inputs_may_be_named_and_typed(call: Call, nets: str) -> None:
    shapes = ("--input-shape", "ids=1,5:int64", "--input-shape", "mask=1,5")
    estimated = call("estimate", f"{nets}:Bag", *shapes, "--format", "json")
    report = json.loads(estimated.out)
    assert report["model"] == "Bag"
    assert any(layer["module"] == "table" for layer in report["layers"])
    assert all(f"{nets}.py:" in layer["source"] for layer in report["layers"])


def test_an_exported_program_is_estimated_and_its_free_dimension_bound(
    call: Call, tmp_path: Path
) -> None:
    module = torch.nn.Linear(6, 8).eval()
    free = {"input": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(module, (torch.zeros(2, 6),), dynamic_shapes=free)
    torch.export.save(program, tmp_path / "linear.pt2")
    one = call("estimate", "linear.pt2", "--format", "json")
    many = call("estimate", "linear.pt2", "--shape", "input=64,6", "--format", "json")
    joules = [json.loads(done.out)["energy"]["energy_j"] for done in (one, many)]
    assert joules[0] < joules[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("NETS:small",), 2, "needs example inputs"),
        (("NETS:small", "--input-shape", "1,7"), 2, "does not run on its example inputs"),
        (("NETS:small", "--input-shape", "1,6:float7"), 2, "no type 'float7'"),
        (("NETS:Bag", "--input-shape", "1,5", "--input-shape", "mask=1,5"), 2, "Name every"),
        (("NETS:nothing", "--input-shape", "1,6"), 2, "cannot be imported"),
        (("NETS:ByValue", "--input-shape", "2,6"), 3, "decides by the values of a tensor"),
        (("model.onnx", "--input-shape", "2,6"), 2, "--input-shape is for PyTorch modules"),
        (("missing.pt2",), 2, "does not exist"),
        (("weights.pth",), 2, "does not exist"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    call: Call, nets: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = call("estimate", *(argument.replace("NETS", nets) for argument in arguments))
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_sensitivities_of_an_exported_program_are_measured(call: Call, tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(6, 8).eval(), (torch.zeros(1, 6),))
    torch.export.save(program, tmp_path / "linear.pt2")
    np.savez(tmp_path / "rows.npz", input=np.random.default_rng(0).random((8, 6), np.float32))
    done = call("sensitivity", "linear.pt2", "--calib", "rows.npz", "--format", "json")
    assert done.code == 0, done.err
    assert "linear" in done.out
