from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gcompile import ir
from gcompile.errors import InvalidModelError, UsageError

SOURCE = """
class Model:
    def named_parameters(self):
        return iter(())

instance = Model()
number = 3

def fails():
    raise RuntimeError("no weights")

def talks():
    print("hello")
    return instance
"""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a Python module in the current folder."""
    name = f"module_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1,3,224,224", ir.InputShape((1, 3, 224, 224))),
        ("1,128:int64", ir.InputShape((1, 128), "int64")),
        ("mask=1,128:bool", ir.InputShape((1, 128), "bool", "mask")),
        ("7", ir.InputShape((7,))),
    ],
)
def test_input_shapes_are_read(text: str, shape: ir.InputShape) -> None:
    assert ir.InputShape.parse(text) == shape


@pytest.mark.parametrize(
    "text", ["", "1,x", "0,3", "1,-3", "1,3:", "=1,3", "a b=1", "1,,3", "1:int:8"]
)
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="--input-shape 1,3,224,224"):
        ir.InputShape.parse(text)


def test_a_spec_is_told_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ir.is_module_spec("net:factory")
    assert ir.is_module_spec("my.module:Factory")
    assert not ir.is_module_spec("model.onnx")
    assert not ir.is_module_spec("folder/net:factory")
    Path("net:factory").touch()
    assert not ir.is_module_spec("net:factory")


def test_classes_functions_and_instances_make_a_module(
    in_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = ir.load_module(f"{in_folder}:instance")
    assert ir.load_module(f"{in_folder}:talks") is instance
    assert type(ir.load_module(f"{in_folder}:Model")) is type(instance)
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nothing", UsageError, "cannot be imported: .*nothing"),
        ("number", UsageError, "is a int. Name a function"),
        ("fails", InvalidModelError, "raises RuntimeError: no weights"),
    ],
)
def test_what_is_no_factory_is_refused(
    in_folder: str, name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ir.load_module(f"{in_folder}:{name}")


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="No module named 'not_there'"):
        ir.load_module("not_there:factory")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_pickles_of_pytorch_are_not_loaded(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"PK")
    with pytest.raises(InvalidModelError, match="may run any code"):
        ir.load(tmp_path / f"model{suffix}")
