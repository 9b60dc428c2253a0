from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import ExportError, GcompileError, UsageError

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: make check-torch")
nn = torch.nn

pytestmark = pytest.mark.torch


class Block(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.9)

    def forward(self, x: object) -> object:
        self.last = x
        return torch.relu(self.drop(self.norm(self.conv(x))))


class Net(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.head = nn.Linear(8, 10)

    def forward(self, x: object) -> dict[str, object]:
        pooled = self.block(x).mean((2, 3))
        return {"logits": self.head(pooled), "features": (pooled, pooled * 2)}


class Inner(nn.Module):  # type: ignore[misc, name-defined]
    """Does what it is told with its input, one level below the outermost module."""

    def __init__(self, function: Callable[[object], object]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: object) -> object:
        return self.function(x)


class Outer(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, function: Callable[[object], object]) -> None:
        super().__init__()
        self.inner = Inner(function)

    def forward(self, x: object) -> object:
        return self.inner(x) + 1


def image(batch: int = 1) -> object:
    return torch.randn(batch, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    made.block.norm.running_mean.uniform_(-1, 1)
    return made


def agrees(module: object, model: ir.Model, x: object) -> bool:
    """Whether the graph computes what the module does in evaluation mode."""
    assert callable(module)
    assert isinstance(x, torch.Tensor)
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(module(x))
    name = str(model.graph.inputs[0].name)
    found = OnnxRuntime()(model, {name: x.numpy()}).values()
    return all(
        np.allclose(a, b.numpy(), rtol=1e-4, atol=1e-4) for a, b in zip(found, wanted, strict=True)
    )


def test_a_module_in_training_is_exported_for_inference_and_stays_in_training() -> None:
    module = net()
    module.block.norm.eval()  # frozen, as one does
    x = image()
    model = ir.prepare(ir.from_torch(module, (x,)))
    modes = {name: part.training for name, part in module.named_modules()}
    assert modes == {
        "": True, "block": True, "block.conv": True, "block.norm": False, "block.drop": True,
        "head": True,
    }  # fmt: skip
    assert agrees(module.eval(), model, x)


def test_what_forward_assigns_is_undone() -> None:
    module = net()
    ir.from_torch(module, (image(),))
    assert not hasattr(module.block, "last")


def test_parameters_are_shared_with_the_module() -> None:
    module = net()
    model = ir.prepare(ir.from_torch(module, (image(),)))
    array = ir.constant_array(model.graph.initializers["block.conv.weight"])
    assert array is not None
    assert np.shares_memory(array, module.block.conv.weight.detach().numpy())


def test_every_node_knows_its_module_and_its_line() -> None:
    model = ir.prepare(ir.from_torch(net(), (image(),)))
    found = {node.op_type: ir.place_of([node]) for node in model.graph}
    modules = {op: place.module for op, place in found.items() if place is not None}
    assert modules == {
        "Conv": "block.conv",
        "BatchNormalization": "block.norm",
        "Identity": "block.drop",
        "Relu": "block",
        "ReduceMean": "",
        "Gemm": "head",
        "Mul": "",
    }
    lines = [place.source for place in found.values() if place is not None]
    assert all(line is not None and "test_from_torch.py:" in line for line in lines)


def test_inputs_and_outputs_are_called_what_the_module_calls_them() -> None:
    model = ir.from_torch(net(), {"x": image()})
    assert [value.name for value in model.graph.inputs] == ["x"]
    outputs = [value.name for value in model.graph.outputs]
    assert outputs == ["logits", "features_0", "features_1"]
    alone = ir.from_torch(nn.ReLU(), image())  # type: ignore[arg-type]
    assert [value.name for value in alone.graph.outputs] == ["output"]


def test_free_dimensions_are_symbols_until_they_are_bound() -> None:
    module = net().eval()
    model = ir.from_torch(module, (image(2),), {"x": {0: "batch"}})
    assert str(model.graph.inputs[0].shape) == "[batch,3,6,6]"
    bound = ir.prepare(model, {"x": (5, 3, 6, 6)})
    assert agrees(module, bound, image(5))


def test_an_exported_program_needs_no_inputs() -> None:
    module = net().eval()
    module.block.forward = lambda x: torch.relu(module.block.norm(module.block.conv(x)))
    program = torch.export.export(module, (image(),))
    assert agrees(module, ir.prepare(ir.from_torch(program)), image())


def only_real_tensors(x: object) -> object:
    if type(x) is not torch.Tensor:
        raise TypeError("give a real tensor")
    return torch.relu(x)


def test_what_export_refuses_is_run_once_and_a_note_says_so() -> None:
    module = Outer(only_real_tensors).eval()
    model = ir.prepare(ir.from_torch(module, (image(),)))
    assert agrees(module, model, image())
    (note,) = ir.notes_of(model)
    assert "The module was run once to export it" in note
    assert "give a real tensor" in note
    assert [value.name for value in model.graph.inputs] == ["x"]
    places = [ir.place_of([node]) for node in model.graph]
    assert [place.module for place in places if place is not None] == ["inner", ""]


def test_running_the_module_once_leaves_its_buffers_alone() -> None:
    module = Outer(lambda x: only_real_tensors(x) + module.inner.count.add_(1))
    ir.from_torch(module, (image(),))
    assert float(module.inner.count) == 0


@pytest.mark.parametrize("compile_", ["script", "trace"])
def test_a_script_module_goes_through_the_other_exporter(compile_: str) -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU()).eval()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        scripted = (
            torch.jit.script(module) if compile_ == "script" else torch.jit.trace(module, image())
        )
    model = ir.prepare(ir.from_torch(scripted, (image(),)))
    assert agrees(module, model, image())
    assert [value.name for value in model.graph.inputs] == ["input"]
    assert "ScriptModule" in ir.notes_of(model)[0]


def test_changes_of_state_are_lost_and_a_note_says_so() -> None:
    class Counter(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: object) -> object:
            self.calls += 1
            return x + self.calls

    module = Counter()
    (note,) = ir.notes_of(ir.from_torch(module, (image(),)))
    assert "changes calls whenever it runs" in note
    assert float(module.calls) == 0


def by_value(x: object) -> object:
    assert isinstance(x, torch.Tensor)
    return x * 2 if x.sum() > 0 else x


def singular_values(x: object) -> object:
    return torch.linalg.svd(x)[1]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (by_value, r"`inner` \(.*test_from_torch.py:\d+\) decides by the values .*torch.where"),
        (
            singular_values,
            r"operator aten._linalg_svd at `inner` \(.*test_from_torch.py:\d+\) has no ONNX",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_with_its_place_and_a_remedy(
    function: Callable[[object], object], message: str
) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        ir.from_torch(Outer(function), (image(),))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "needs example inputs"),
        ((torch.zeros(2, 5),), "does not run on its example inputs: .*Give inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_a_matter_of_usage(inputs: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ir.from_torch(net(), inputs)  # type: ignore[arg-type]


def test_something_else_is_no_model() -> None:
    with pytest.raises(UsageError, match="A dict is no model"):
        ir.from_torch({})  # type: ignore[arg-type]


def test_sizes_that_depend_on_the_data_are_counted_or_refused_where_they_arise() -> None:
    model = ir.from_torch(Outer(lambda x: x[x > 0]), (image(),))  # type: ignore[index, operator]
    ready = ir.prepare(model.clone())
    assert ir.counts_of(ready)
    model = ir.from_torch(
        Outer(lambda x: torch.cat([x[x > 0], x[x < 1]]).view(2, -1)),  # type: ignore[index, operator]
        (image(),),
    )
    with pytest.raises(GcompileError, match=r"at `inner`"):
        ir.refuse_nodes(ir.prepare(model))
