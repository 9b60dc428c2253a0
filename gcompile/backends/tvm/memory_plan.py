"""How much memory a planned module holds at its worst moment.

TVM's planner lets tensors that are never alive together share storage, and gives a storage back
after its last tensor. So a walk through the planned code finds the bytes alive at each kernel.
What the kernel allocates for itself comes on top; weights and inputs are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import tvm
import tvm_ffi
from tvm import relax, tirx

from gcompile.backends.tvm.cache import Kernel

_STACK_BYTES = 1024
"""TVM puts buffers up to this size on the stack; larger ones are allocated while a kernel runs."""


def peak_memory_bytes(
    module: tvm.IRModule,
    called: Mapping[str, Kernel] = MappingProxyType({}),
    entry: str = "main",
) -> int:
    """The largest sum of live storages and a kernel's workspace while the entry runs.

    Args:
        module: After TVM's planning passes, with the kernels.
        called: What kernels of the module call by name.
        entry: The function that runs the model.
    """
    return _Plan(module, called).peak(module[entry])


def workspace_bytes(kernel: tirx.PrimFunc) -> int:
    """What a kernel allocates while it runs, all its tasks together."""
    total, tasks = 0, 1

    def allocate(node: tirx.AllocBuffer, visitor: tvm_ffi.StructuralVisitor) -> None:
        nonlocal total
        size = math.prod(int(n) for n in node.buffer.shape) * node.buffer.dtype.itemsize
        total += tasks * size if size > _STACK_BYTES else 0
        visitor.default_visit(node)

    def loop(node: tirx.For, visitor: tvm_ffi.StructuralVisitor) -> None:
        nonlocal tasks
        outside = tasks
        if node.kind == tirx.ForKind.PARALLEL:
            tasks *= int(node.extent)
        visitor.default_visit(node)
        tasks = outside

    tvm_ffi.structural_visit(kernel.body, [(tirx.AllocBuffer, allocate), (tirx.For, loop)])
    return total


@dataclass
class _Plan:
    """The module, and the peaks of its functions as far as they are known."""

    module: tvm.IRModule
    called: Mapping[str, Kernel]
    peaks: dict[str, int] = field(default_factory=dict)

    def peak(self, function: relax.Function) -> int:
        storages = _Storages()
        worst = 0
        for block in function.body.blocks:
            for binding in block.bindings:
                storages.follow(binding.var, binding.value)
                worst = max(worst, storages.live_bytes + self._peak_inside(binding.value))
        return worst

    def _peak_inside(self, value: relax.Expr) -> int:
        """What the functions called by an expression hold."""
        called: set[str] = set()
        tvm_ffi.structural_walk(
            value, (tvm.ir.GlobalVar, lambda variable: called.add(variable.name_hint))
        )
        return max((self._peak_of(name) for name in called), default=0)

    def _peak_of(self, name: str) -> int:
        if name not in self.peaks:
            function = self.module[name]
            is_kernel = isinstance(function, tirx.PrimFunc)
            self.peaks[name] = self._of_kernel(function) if is_kernel else self.peak(function)
        return self.peaks[name]

    def _of_kernel(self, kernel: tirx.PrimFunc) -> int:
        """Its own workspace, and the largest of a kernel that it calls by name."""
        names: set[str] = set()
        tvm_ffi.structural_walk(
            kernel.body, (tvm.ir.StringImm, lambda text: names.add(text.value))
        )
        called = (workspace_bytes(self.called[name].function) for name in names & {*self.called})
        return workspace_bytes(kernel) + max(called, default=0)


@dataclass
class _Storages:
    """Which storages are alive, and the variables that keep them so."""

    live_bytes: int = 0
    sizes: dict[relax.Var, int] = field(default_factory=dict)
    storage_of: dict[relax.Var, relax.Var] = field(default_factory=dict)
    holders: dict[relax.Var, set[relax.Var]] = field(default_factory=dict)

    def follow(self, variable: relax.Var, value: relax.Expr) -> None:
        """Take account of one binding."""
        match _callee(value):
            case "relax.vm.alloc_storage":
                self.sizes[variable] = math.prod(int(n) for n in value.args[0].values)
                self.live_bytes += self.sizes[variable]
                self._hold(variable, variable)
            case "relax.vm.alloc_tensor" | "vm.builtin.reshape":
                self._share(variable, value.args[0])
            case "relax.vm.kill_object":
                self._drop(value.args[0])
            case "" if isinstance(value, relax.Var):
                self._share(variable, value)

    def _share(self, variable: relax.Var, source: relax.Expr) -> None:
        if source in self.storage_of:
            self._hold(variable, self.storage_of[source])

    def _hold(self, variable: relax.Var, storage: relax.Var) -> None:
        self.storage_of[variable] = storage
        self.holders.setdefault(storage, set()).add(variable)

    def _drop(self, variable: relax.Var) -> None:
        storage = self.storage_of.pop(variable, None)
        if storage is None:
            return
        self.holders[storage].discard(variable)
        if not self.holders[storage]:
            self.live_bytes -= self.sizes.pop(storage)


def _callee(value: relax.Expr) -> str:
    """The operator or runtime function that an expression calls; empty for anything else."""
    match value:
        case (
            relax.Call(op=tvm.ir.Op(name=name))
            | relax.Call(op=relax.ExternFunc(global_symbol=name))
        ):
            return str(name)
    return ""
