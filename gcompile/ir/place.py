"""Where in a PyTorch module a node comes from, as PyTorch's exporter wrote it down.

`torch.onnx.export` leaves the module path and the Python stack in the metadata of every node, of
models in memory and of files. Passes hand it on with `add_origin`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir

_SCOPES = "pkg.torch.onnx.name_scopes"
_STACK = "pkg.torch.onnx.stack_trace"

_QUOTED = re.compile(r"'([^']*)'")
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')
_LIBRARIES = re.compile(r"^.*/(?:site|dist)-packages/")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a PyTorch module.

    Attributes:
        module: The path of the submodule, as `named_modules` spells it: `encoder.layer.0`. Empty
            for the outermost module.
        source: `FILE:LINE` of the innermost call outside PyTorch itself; None when not known.
    """

    module: str
    source: str | None = None

    @classmethod
    def of(cls, module: str, stack: str) -> Place:
        """Find the line in the text of a Python stack, outermost call first."""
        frames = [(short_path(file), line) for file, line in _FRAME.findall(stack)]
        own = [(file, line) for file, line in frames if not is_inside_torch(file)]
        innermost = (own or frames)[-1:]
        return cls(module, ":".join(innermost[0]) if innermost else None)

    def __str__(self) -> str:
        """Text for a message: `encoder.layer.0` (net.py:12)."""
        name = f"`{self.module}`" if self.module else "the outermost module"
        return f"{name} ({self.source})" if self.source else name


def place_of(nodes: Iterable[onnx_ir.Node]) -> Place | None:
    """Return the place of the first node that has one."""
    for node in nodes:
        scopes = _QUOTED.findall(node.metadata_props.get(_SCOPES, ""))
        if scopes[:1] == [""]:  # The outermost module; the last one is the operator itself.
            module = scopes[-2] if len(scopes) > 1 else ""
            return Place.of(module, node.metadata_props.get(_STACK, ""))
    return None


def set_place(node: onnx_ir.Node, module: str) -> None:
    """Write down the module path of a node, as PyTorch's exporter does."""
    parts = module.split(".") if module else []
    scopes = ["", *(".".join(parts[: i + 1]) for i in range(len(parts))), str(node.op_type)]
    node.metadata_props[_SCOPES] = str(scopes)


def copy_place(source: onnx_ir.Node, node: onnx_ir.Node) -> None:
    """Give the node the place of another, unless it has one."""
    if _SCOPES in node.metadata_props:
        return
    for key in (_SCOPES, _STACK):
        if key in source.metadata_props:
            node.metadata_props[key] = source.metadata_props[key]


def short_path(file: str) -> str:
    """A path without the folder that libraries are installed in."""
    return _LIBRARIES.sub("", file)


def is_inside_torch(file: str) -> bool:
    """Whether a source file is one of PyTorch's own."""
    return short_path(file).startswith("torch/")
