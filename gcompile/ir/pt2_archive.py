"""Copy a `.pt2` file, leaving out whatever could run code when PyTorch loads it.

`torch.export.load` is not made for files of strangers: it unpickles weights, constants and
example inputs, hands text to `eval` (sympy's `sympify`) and to the code generator of torch.fx,
takes any attribute of torch for an operator, and opens shared libraries. What is copied here holds
tensors as bytes and a program of known operators; everything else is dropped or refused.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any

from gcompile.errors import InvalidModelError

_MAX_DEPTH = 200

_NAME = re.compile(r"[A-Za-z0-9_]*|-Infinity")
_PATH = re.compile(r"[A-Za-z0-9_.:+-]*")
_PATH_KEYS = frozenset(
    {"parameter_name", "buffer_name", "tensor_constant_name", "fqn", "path_name", "torch_version"}
)
_TEXT_KEYS = frozenset({"as_string", "as_strings"})
_REFUSED_KEYS = {
    "as_custom_obj": "a custom object",
    "custom_obj": "a custom object",
    "class_fqn": "a custom object",
}

_WORD = r"(?:[A-Za-z]\w*|_[A-Za-z]\w*|__(?:and|or|xor|lshift|rshift)__)"
_TARGETS = re.compile(
    rf"torch\.ops\.(?:aten|prims)\.{_WORD}\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.(?:cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_[a-z]+"
    r"|_operator\.(?:getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|le|lt|ge|gt|and_|or_)"
    r"|math\.(?:trunc|floor|ceil|sqrt)"
)
_FILE_OPERATORS = re.compile(r"torch\.ops\.aten\.(?:from_file|save|load)\.")

_FUNCTIONS = frozenset(
    {"Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Max", "Min", "Mod", "PythonMod",
     "FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "ToFloat",
     "TruncToInt", "FloorToInt", "CeilToInt", "RoundToInt", "Where", "Identity", "Equality",
     "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "And", "Or",
     "Not"}
)  # fmt: skip
_DAMAGED = (zipfile.BadZipFile, LookupError, ValueError, TypeError, AttributeError, RuntimeError)
"""What reading a file raises that is no such archive, cut off, encrypted or nested too deeply."""

_CONSTANT = re.compile(r"[A-Za-z]\w{0,60}|[0-9.e+-]{1,60}")
_SYNTAX = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp,
           ast.USub)  # fmt: skip


def copy_vetted(path: Path, sink: IO[bytes]) -> None:
    """Write into `sink` what is safe of the exported program in the file.

    Raises:
        InvalidModelError: The file is no such archive, or needs something that is not safe.
    """
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(sink, "w") as copy:
            _Copier(path, archive, copy).run()
    except _DAMAGED as error:
        raise InvalidModelError(
            f"{str(path)!r} is not an exported program that torch.export.save wrote, or is "
            "damaged. Save it again with the version of PyTorch that is installed here."
        ) from error


class _Copier:
    def __init__(self, path: Path, archive: zipfile.ZipFile, copy: zipfile.ZipFile) -> None:
        self.path, self.archive, self.copy = path, archive, copy
        members = archive.infolist()
        root = members[0].filename.split("/")[0] if members else ""
        self.members = {m.filename.removeprefix(f"{root}/"): m for m in members}

    def run(self) -> None:
        for name in self.members:
            if name.startswith(("data/aotinductor/", "data/executorch/")):
                raise self.refused("compiled code")
        for name, content in (
            ("archive_format", b"pt2"),
            ("archive_version", b"0"),
            ("byteorder", b"little"),
            (".data/version", b"6\n"),
            ("data/sample_inputs/model.pt", b""),
        ):
            self.write(name, content)
        program = self.json("models/model.json")
        program["guards_code"] = []
        program["graph_module"]["treespec_namedtuple_fields"] = {}
        self.write("models/model.json", json.dumps(self.vetted(program, "", 0)).encode())
        for kind in ("weights", "constants"):
            self.copy_tensors(f"data/{kind}/", f"data/{kind}/model_{kind}_config.json")

    def copy_tensors(self, folder: str, config_name: str) -> None:
        """Copy tensors that lie there as plain bytes."""
        config = self.json(config_name)
        for entry in config["config"].values():
            name = str(entry["path_name"])
            if entry["use_pickle"] or not name.startswith(("weight_", "tensor_")):
                raise self.refused("pickled data")
            if f"{folder}{name}" not in self.copy.namelist():
                self.copy_member(f"{folder}{name}")
        self.write(config_name, json.dumps(self.vetted(config, "", 0)).encode())

    def vetted(self, value: object, key: str, depth: int) -> object:
        """The value without what is not needed, once every text in it is known to be harmless."""
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if isinstance(value, list):
            return [self.vetted(item, key, depth + 1) for item in value]
        if isinstance(value, str):
            return self.vetted_text(value, key)
        if not isinstance(value, dict):
            return value
        if value.keys() == {"type", "index"}:  # Wherever it was exported, it is compiled here.
            return {"type": "cpu", "index": None}
        if key == "metadata":
            return {k: str(value[k]) for k in ("nn_module_stack", "stack_trace") if k in value}
        for name in value:
            if name in _REFUSED_KEYS:
                raise self.refused(_REFUSED_KEYS[name])
            if not _PATH.fullmatch(name):
                raise self.refused(f"the name {name!r:.60}")
        return {name: self.vetted(item, name, depth + 1) for name, item in value.items()}

    def vetted_text(self, text: str, key: str) -> str:
        if key in _TEXT_KEYS:
            return text
        if key in ("in_spec", "out_spec"):
            return json.dumps([1, self.structure(json.loads(text)[1], 0)])
        if key in ("target", "as_operator"):
            known = _TARGETS.fullmatch(text) is not None and not _FILE_OPERATORS.match(text)
        elif key == "expr_str":
            known = _is_arithmetic(text)
        else:
            known = (_PATH if key in _PATH_KEYS else _NAME).fullmatch(text) is not None
        if not known:
            raise self.refused(f"{text!r:.60}")
        return text

    def structure(self, spec: dict[str, object], depth: int) -> dict[str, object]:
        """How inputs or outputs are nested, with tuples and dictionaries for all containers."""
        children = spec["children_spec"]
        if depth > _MAX_DEPTH or not isinstance(children, list):
            raise ValueError("no tree")
        if spec["type"] is None:
            return {"type": None, "context": None, "children_spec": []}
        context = json.loads(str(spec["context"])) if spec["context"] is not None else None
        if isinstance(context, list) and len(context) == len(children):
            kind, context = "builtins.dict", [str(key) for key in context]
        elif spec["type"] in ("builtins.tuple", "builtins.list"):
            kind, context = str(spec["type"]), None
        else:
            raise self.refused(f"inputs or outputs in a {spec['type']!s:.60}")
        below = [self.structure(child, depth + 1) for child in children]
        return {"type": kind, "context": json.dumps(context), "children_spec": below}

    def json(self, name: str) -> dict[str, Any]:
        data = json.loads(self.archive.read(self.plain(name)))
        if not isinstance(data, dict):
            raise TypeError(f"{name} is no object")
        return data

    def copy_member(self, name: str) -> None:
        with self.archive.open(self.plain(name)) as source, self.open(name) as sink:
            shutil.copyfileobj(source, sink)

    def write(self, name: str, content: bytes) -> None:
        with self.open(name) as sink:
            sink.write(content)

    def open(self, name: str) -> IO[bytes]:
        return self.copy.open(f"model/{name}", "w", force_zip64=True)

    def plain(self, name: str) -> zipfile.ZipInfo:
        """A member that is as large as it lies in the file."""
        member = self.members[name]
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        return member

    def refused(self, what: str) -> InvalidModelError:
        return InvalidModelError(
            f"{str(self.path)!r} holds {what}, and loading that could run any code. If you trust "
            "the file, load it yourself: gcompile.compile(torch.export.load(...))."
        )


def _is_arithmetic(text: str) -> bool:
    """Whether it is the `srepr` of a shape: calls of known functions on symbols and numbers."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _SYNTAX):
            return False
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            return False
        if isinstance(node, ast.Name) and node.id not in _FUNCTIONS | {"true", "false"}:
            return False
        if isinstance(node, ast.Constant) and not _CONSTANT.fullmatch(str(node.value)):
            return False
    return True
