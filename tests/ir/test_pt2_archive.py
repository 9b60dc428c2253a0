"""Files of strangers: every way in which loading one could run code is closed."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import GcompileError, InvalidModelError, UsageError

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: make check-torch")
nn = torch.nn

pytestmark = pytest.mark.torch

Json = dict[str, Any]
Members = dict[str, bytes]


class Model(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor([2.0]))
        self.offset = torch.tensor([1.0])

    def forward(self, ids: object, mask: object) -> dict[str, object]:
        rows = self.table(ids) * self.scale + self.offset
        return {"logits": self.head((rows * mask).sum(1)), "rows": rows}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported program with a free dimension, weights, a buffer and a constant."""
    torch.manual_seed(0)
    inputs = (torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.ones(2, 3, 1))
    shapes = {"ids": {0: torch.export.Dim.DYNAMIC}, "mask": {0: torch.export.Dim.DYNAMIC}}
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", lambda *_, **__: None)
        program = torch.export.export(Model().eval(), inputs, dynamic_shapes=shapes)
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    torch.export.save(program, path)
    return path


def changed(saved: Path, tmp_path: Path, change: Callable[[Members], None]) -> Path:
    """A copy of the file, its members changed."""
    with zipfile.ZipFile(saved) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return path


def in_program(change: Callable[[Json], None]) -> Callable[[Members], None]:
    return in_json("models/model.json", change)


def in_json(name: str, change: Callable[[Json], None]) -> Callable[[Members], None]:
    def apply(members: Members) -> None:
        data = json.loads(members[name])
        change(data)
        members[name] = json.dumps(data).encode()

    return apply


def nodes(program: Json) -> list[Json]:
    found: list[Json] = program["graph_module"]["graph"]["nodes"]
    return found


class Exploit:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (self.code,)

    @property
    def code(self) -> str:
        return f"open({str(self.proof)!r}, 'w').close()"


@pytest.fixture
def exploit(tmp_path: Path) -> Exploit:
    return Exploit(tmp_path / "proof")


def test_a_program_becomes_a_graph_that_computes_the_same(saved: Path) -> None:
    model = ir.load_pt2(saved)
    assert model.graph.name == "model"
    bound = ir.prepare(model, {"ids": (2, 3)})
    ids, mask = np.array([[1, 2, 3], [4, 5, 6]]), np.ones((2, 3, 1), np.float32)
    found = OnnxRuntime()(bound, {"ids": ids, "mask": mask})
    torch.manual_seed(0)
    with torch.no_grad():
        wanted = Model().eval()(torch.from_numpy(ids), torch.from_numpy(mask))
    assert list(found) == ["logits", "rows"]
    for name, tensor in wanted.items():
        assert np.allclose(found[name], tensor.numpy(), rtol=1e-5, atol=1e-5)


def test_nodes_of_a_file_know_their_module_and_line(saved: Path) -> None:
    model = ir.prepare(ir.load_pt2(saved))
    places = {node.op_type: ir.place_of([node]) for node in model.graph}
    gather = places["Gather"]
    assert gather is not None
    assert gather.module == "table"
    assert gather.source is not None
    assert "test_pt2_archive.py:" in gather.source


def test_containers_that_are_not_known_here_are_read_as_dictionaries(
    saved: Path, tmp_path: Path
) -> None:
    def change(program: Json) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = signature["out_spec"].replace("builtins.dict", "their.Output")

    model = ir.load_pt2(changed(saved, tmp_path, in_program(change)))
    assert [value.name for value in model.graph.outputs] == ["logits", "rows"]


def test_pickled_example_inputs_are_left_out(
    saved: Path, tmp_path: Path, exploit: Exploit
) -> None:
    def change(members: Members) -> None:
        members["data/sample_inputs/model.pt"] = pickle.dumps(exploit)

    ir.load_pt2(changed(saved, tmp_path, change))
    assert not exploit.proof.exists()


def test_guards_and_notes_about_nodes_are_left_out(
    saved: Path, tmp_path: Path, exploit: Exploit
) -> None:
    def change(program: Json) -> None:
        program["guards_code"] = [exploit.code]
        for node in nodes(program):
            node["metadata"]["custom"] = node["metadata"]["from_node"] = "{"
            node["metadata"]["source_fn_stack"] = "x,torch.os.system"
            node["metadata"]["stack_trace"] += f"\n{exploit.code}\n"

    ir.load_pt2(changed(saved, tmp_path, in_program(change)))
    assert not exploit.proof.exists()


@pytest.mark.parametrize(
    "name", ["weights/model_weights", "constants/model_constants"], ids=["weights", "constants"]
)
def test_pickled_tensors_are_refused_with_the_remedy(
    saved: Path, tmp_path: Path, exploit: Exploit, name: str
) -> None:
    def change(members: Members) -> None:
        def pickled(config: Json) -> None:
            entry = next(iter(config["config"].values()))
            entry["use_pickle"] = True
            members[f"data/{name.split('/')[0]}/{entry['path_name']}"] = pickle.dumps(exploit)

        in_json(f"data/{name}_config.json", pickled)(members)

    with pytest.raises(InvalidModelError, match=r"pickled data.*torch\.export\.load\(\.\.\.\)"):
        ir.load_pt2(changed(saved, tmp_path, change))
    assert not exploit.proof.exists()


@pytest.mark.parametrize("prefix", ["custom_obj_0", "opaque_obj_0"])
def test_objects_are_refused(saved: Path, tmp_path: Path, exploit: Exploit, prefix: str) -> None:
    def change(members: Members) -> None:
        def as_object(config: Json) -> None:
            next(iter(config["config"].values()))["path_name"] = prefix

        in_json("data/constants/model_constants_config.json", as_object)(members)
        members[f"data/constants/{prefix}"] = pickle.dumps(exploit)

    with pytest.raises(InvalidModelError, match="pickled data"):
        ir.load_pt2(changed(saved, tmp_path, change))
    assert not exploit.proof.exists()


def test_compiled_code_is_refused(saved: Path, tmp_path: Path) -> None:
    def change(members: Members) -> None:
        members["data/aotinductor/model/model.so"] = b"\x7fELF"

    with pytest.raises(InvalidModelError, match="compiled code"):
        ir.load_pt2(changed(saved, tmp_path, change))


def test_legacy_weights_are_not_read(saved: Path, tmp_path: Path, exploit: Exploit) -> None:
    def change(members: Members) -> None:
        members["data/weights/model.pt"] = pickle.dumps(exploit)

    ir.load_pt2(changed(saved, tmp_path, change))
    assert not exploit.proof.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.theirs.run.default",
        "_operator.attrgetter",
        "math.__loader__.load_module",
        "#theirs:run",
        "torch.ops.load_library",
    ],
)
def test_unknown_operators_are_refused(saved: Path, tmp_path: Path, target: str) -> None:
    def change(program: Json) -> None:
        nodes(program)[0]["target"] = target

    with pytest.raises(InvalidModelError, match="could run any code"):
        ir.load_pt2(changed(saved, tmp_path, in_program(change)))


@pytest.mark.parametrize(
    "expression",
    [
        "CODE",
        "__import__('os').system('true')",
        "Symbol('s1').__class__",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "Integer(9)**Integer(9)**Integer(9)",
        "exec('1')",
        "Symbol('s1); exec(1')",
    ],
)
def test_shapes_are_arithmetic_and_nothing_else(
    saved: Path, tmp_path: Path, exploit: Exploit, expression: str
) -> None:
    def change(program: Json) -> None:
        text = json.dumps(program["graph_module"]["graph"]["tensor_values"])
        wanted = expression.replace("CODE", exploit.code)
        start = text.index('"expr_str": ') + len('"expr_str": ')
        end = text.index(')"', start) + 2
        text = text[:start] + json.dumps(wanted) + text[end:]
        program["graph_module"]["graph"]["tensor_values"] = json.loads(text)

    with pytest.raises(InvalidModelError, match="could run any code"):
        ir.load_pt2(changed(saved, tmp_path, in_program(change)))
    assert not exploit.proof.exists()


def test_names_cannot_become_code(saved: Path, tmp_path: Path, exploit: Exploit) -> None:
    def change(members: Members) -> None:
        hostile = f"ids): pass\n{exploit.code}\ndef f("
        members["models/model.json"] = members["models/model.json"].replace(
            b'"name": "ids"', f'"name": {json.dumps(hostile)}'.encode()
        )

    with pytest.raises(InvalidModelError, match="could run any code"):
        ir.load_pt2(changed(saved, tmp_path, change))
    assert not exploit.proof.exists()


def test_containers_with_code_of_their_own_are_refused(saved: Path, tmp_path: Path) -> None:
    def change(program: Json) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        spec = json.loads(signature["out_spec"])
        spec[1]["type"] = "collections.defaultdict"
        spec[1]["context"] = json.dumps({"default_factory_module": "os"})
        signature["out_spec"] = json.dumps(spec)

    with pytest.raises(InvalidModelError, match=r"collections\.defaultdict"):
        ir.load_pt2(changed(saved, tmp_path, in_program(change)))


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.pop("models/model.json"),
        lambda members: members.update({"models/model.json": b"[" * 100_000}),
        lambda members: members.update({"models/model.json": b"[]"}),
        lambda members: members.update({"data/weights/weight_0": b"abc"}),
        lambda members: members.pop("data/weights/weight_0"),
    ],
    ids=["no program", "deep", "list", "short weight", "no weight"],
)
def test_damaged_files_are_refused(
    saved: Path, tmp_path: Path, change: Callable[[Members], None]
) -> None:
    with pytest.raises(GcompileError) as caught:
        ir.load_pt2(changed(saved, tmp_path, change))
    assert caught.value.exit_code == 3


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"not a zip")
    with pytest.raises(InvalidModelError, match=r"torch\.export\.save"):
        ir.load_pt2(tmp_path / "model.pt2")
    with pytest.raises(UsageError, match="does not exist"):
        ir.load_pt2(tmp_path / "other.pt2")
