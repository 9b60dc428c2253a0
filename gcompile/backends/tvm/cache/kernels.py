"""Compile each kernel to an object file of its own, unless it is in the store.

A kernel is named by its content. So its object file depends on nothing but itself, the target and
the compiler; two models with the same kernel share it; and a generator that changed without a new
version cannot be given old code.

Kernels are compiled by threads: TVM and LLVM release Python's lock while they work, so threads are
as fast as processes would be, without another second to import TVM in each.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.target import Target

from gcompile.backends.object_store import ObjectStore
from gcompile.backends.tvm.wrapping import compiling_target
from gcompile.runtime.isa import host_platform
from gcompile.runtime.threads import available_cpus

_KIND = re.compile("[a-z_]*[a-z]")


@dataclass(frozen=True)
class Kernel:
    """A function that can be compiled alone.

    Attributes:
        symbol: Its name: what kind of kernel it is, and the beginning of the hash.
        content: The hash of its code in hexadecimal digits.
    """

    symbol: str
    content: str
    function: tirx.PrimFunc

    @classmethod
    def of(cls, name: str, function: tirx.PrimFunc) -> Kernel:
        """Name a function by its content; of `product_12`, the kind is `product`."""
        nameless = function.without_attr("global_symbol")
        content = hashlib.sha256(tvm.ir.save_json(nameless).encode()).hexdigest()
        kind = _KIND.match(name)
        symbol = f"{kind[0] if kind else 'kernel'}_{content[:16]}"
        return cls(symbol, content, function.with_attr("global_symbol", symbol))


def named_by_content(
    module: tvm.IRModule, exported: Iterable[str]
) -> tuple[tvm.IRModule, dict[str, Kernel]]:
    """Rename the kernels of a module.

    Args:
        module: Relax functions and the kernels they call.
        exported: Functions that keep their names, because others look for them.

    Returns:
        The module, and its kernels by their new names; equal kernels have become one.
    """
    kept = set(exported)
    functions_of = {
        variable: function
        for variable, function in module.functions_items()
        if isinstance(function, tirx.PrimFunc) and variable.name_hint not in kept
    }
    with ThreadPoolExecutor(len(available_cpus())) as pool:  # Writing code down takes longest.
        named = pool.map(lambda item: Kernel.of(item[0].name_hint, item[1]), functions_of.items())
        found = {
            variable.name_hint: (variable, kernel)
            for variable, kernel in zip(functions_of, named, strict=True)
        }
    kernels = {kernel.symbol: kernel for _, kernel in found.values()}
    variables = {kernel.symbol: _variable(kernel.symbol, old) for old, kernel in found.values()}

    def renamed(variable: tvm.ir.GlobalVar) -> tvm.ir.GlobalVar:
        known = found.get(variable.name_hint)
        return variable if known is None else variables[known[1].symbol]

    functions: dict[tvm.ir.GlobalVar, tvm.ir.BaseFunc] = {
        variables[symbol]: kernel.function for symbol, kernel in kernels.items()
    }
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            function = tvm_ffi.structural_map(function, (tvm.ir.GlobalVar, renamed))
        if variable.name_hint not in found:
            functions[variable] = function
    return tvm.IRModule(functions, attrs=module.attrs), kernels


def compile_kernels(
    kernels: Mapping[str, Kernel],
    target: Target,
    config: Mapping[str, object],
    store: ObjectStore | None,
) -> dict[str, bytes]:
    """Compile kernels to object files, as many at a time as this process may use CPUs.

    Args:
        kernels: By their names.
        target: The LLVM target.
        config: Options of TVM's passes.
        store: Where object files are kept between builds; None keeps none.

    Returns:
        The content of each kernel's object file, by the kernel's name.
    """
    job = _Job(target, config, store)
    with ThreadPoolExecutor(len(available_cpus())) as pool:
        objects = dict(zip(kernels, pool.map(job.object_of, kernels.values()), strict=True))
    if store is not None:
        store.trim()
    return objects


@dataclass(frozen=True)
class _Job:
    target: Target
    config: Mapping[str, object]
    store: ObjectStore | None

    def object_of(self, kernel: Kernel) -> bytes:
        key = self._key(kernel)
        known = self.store.get(key) if self.store else None
        if known is not None:
            return known
        compiled = self._compile(kernel)
        if self.store:
            self.store.put(key, compiled)
        return compiled

    def _key(self, kernel: Kernel) -> str:
        facts = (
            kernel.symbol,
            kernel.content,
            str(compiling_target(kernel.function, self.target)),
            host_platform(),
            repr(sorted(self.config.items())),
            version("apache-tvm"),
            version("gcompile"),
        )
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()

    def _compile(self, kernel: Kernel) -> bytes:
        module = tvm.IRModule({kernel.symbol: kernel.function})
        target = compiling_target(kernel.function, self.target)
        with (
            target,
            tvm.transform.PassContext(opt_level=3, config=dict(self.config)),
            tempfile.TemporaryDirectory(prefix="gcompile-") as folder,
        ):
            path = Path(folder) / "kernel.o"
            tvm.tirx.build(module, target=target).write_to_file(str(path))
            return path.read_bytes()


def _variable(name: str, old: tvm.ir.GlobalVar) -> tvm.ir.GlobalVar:
    variable = tvm.ir.GlobalVar(name)
    relax.expr._update_type(variable, old.ty)
    return variable
