"""Compute chains depth first: join the kernel calls of each into one function.

The function calls kernels of a few rows in turn (see `gcompile.ir.row_bands`), and keeps the rows
of every image between in a window that the next call finds in the cache. The kernels it calls are
functions of their own: they are compiled side by side, and equal ones are one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import tvm
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.cache import Kernel
from gcompile.backends.tvm.kernels.band import (
    BandedKernel,
    image_operands,
    is_banded,
)
from gcompile.backends.tvm.kernels.row_passes import Callee, Link, Operand, RowPasses
from gcompile.backends.tvm.kernels.spec import Kernel as KernelSpec
from gcompile.backends.tvm.kernels.spec import TransposeKernel
from gcompile.backends.tvm.lowering.emission import code_of
from gcompile.backends.tvm.lowering.merge import (
    KernelCall,
    declarations,
    inputs_of,
    readers_of,
    renamed,
    with_body,
)
from gcompile.backends.tvm.wrapping import EMITTED_ATTRIBUTE


@dataclass(frozen=True)
class JoinedChains:
    """What became of the chains of one function.

    Attributes:
        module: With a call for each chain that was joined.
        calls: The calls that are left.
        kernels: What the functions of chains call, by name.
        whole: Why a chain is computed image by image after all, by its name.
    """

    module: tvm.IRModule
    calls: Mapping[relax.Var, KernelCall]
    kernels: dict[str, Kernel] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)


def join_chains(
    module: tvm.IRModule, name: str, calls: Mapping[relax.Var, KernelCall]
) -> JoinedChains:
    """Join the calls in the function called `name`; other bindings stay as they are."""
    function = module[name]
    joined, left = JoinedChains(module, calls), dict(calls)
    readers = readers_of(function)
    builder = relax.BlockBuilder(module)
    callees = _Callees(joined.kernels)
    blocks, count = [], 0
    for block in function.body.blocks:
        bindings: list[relax.Binding] = []
        for chain, run_of in itertools.groupby(block.bindings, key=lambda b: _chain(b, calls)):
            run = list(run_of)
            if chain is None:
                bindings += run
                continue
            try:
                links = _Links.of(run, calls, readers)
                passes = links.passes(callees)
            except _WholeError as reason:
                joined.whole[chain] = str(reason)
                bindings += run
                continue
            symbol = f"{name}_chain_{count}"
            count += 1
            function_of_chain = builder.add_func(passes.function(symbol), symbol)
            bindings += [*links.before, links.binding(function_of_chain)]
            for variable in links.results:
                del left[variable]
        blocks.append(type(block)(bindings))
    if not count:
        return joined
    changed = with_body(builder.get(), name, blocks)
    return replace(joined, module=changed, calls=left)


_PAIR = 2
"""Kernels of the shortest chain."""


class _WholeError(Exception):
    """Why calls cannot be joined."""


def _chain(binding: relax.Binding, calls: Mapping[relax.Var, KernelCall]) -> str | None:
    call = calls.get(binding.var)
    return call.chain.name if call is not None and call.chain is not None else None


@dataclass(frozen=True)
class _Links:
    """The calls of one chain.

    Attributes:
        before: Those that bring an input into another layout.
        results: The variables of all others, in order.
        rows: Rows of the last one that a pass computes.
    """

    before: Sequence[relax.Binding]
    results: Sequence[relax.Var]
    calls: Mapping[relax.Var, KernelCall]
    rows: int

    @classmethod
    def of(
        cls,
        run: Sequence[relax.Binding],
        calls: Mapping[relax.Var, KernelCall],
        readers: Mapping[relax.Var, set[relax.Var | None]],
    ) -> _Links:
        """Read a run of calls.

        Raises:
            _WholeError: Rows of one of them cannot be computed by themselves.
        """
        before: list[relax.Binding] = []
        results: list[relax.Var] = []

        def reads(call: KernelCall) -> bool:
            return any(argument in results for argument in call.arguments)

        for binding in run:
            call = calls[binding.var]
            if is_banded(call.kernel):
                results.append(binding.var)
            elif isinstance(call.kernel, TransposeKernel) and not reads(call):
                before.append(binding)
            else:
                raise _WholeError(f"{type(call.kernel).__name__} is not computed by rows")
        inside = set(results)
        if len(results) < _PAIR:
            raise _WholeError("fewer than two kernels of it are computed by rows")
        if any(readers.get(variable, set()) - inside for variable in results[:-1]):
            raise _WholeError("a value inside it is read outside")
        chain = calls[results[-1]].chain
        assert chain is not None
        return cls(before, results, calls, chain.rows)

    @property
    def inputs(self) -> list[relax.Expr]:
        """What comes from outside, each once."""
        return inputs_of(self.results, self.calls)

    def passes(self, callees: _Callees) -> RowPasses:
        """The calls as passes over rows.

        Args:
            callees: Makes functions of the kernels.

        Raises:
            _WholeError: The rows of the images do not go together.
        """
        inputs = self.inputs
        number = {v: i for i, v in enumerate(self.results)}
        links = tuple(self._link(variable, number, inputs) for variable in self.results)
        bands = ir.bands_of([link.layer for link in links], self.rows)
        if bands is None:
            raise _WholeError("its images are too low, or are not read at one pace")
        declared = declarations(self.results, self.calls)
        arguments = (renamed(declared[v], f"input{i}") for i, v in enumerate(inputs))
        return RowPasses(links, bands, tuple(arguments), callees.of)

    def binding(self, function: tvm.ir.GlobalVar) -> relax.Binding:
        """The call of all of it."""
        last = self.results[-1]
        return relax.VarBinding(last, relax.call_tir(function, self.inputs, last.ty))

    def _link(
        self, variable: relax.Var, number: Mapping[relax.Var, int], inputs: list[relax.Expr]
    ) -> Link:
        call = self.calls[variable]
        kernel = call.kernel
        assert isinstance(kernel, BandedKernel)
        images = {operand.index: operand for operand in image_operands(kernel)}
        operands = []
        for index, argument in enumerate(call.arguments):
            inner = number.get(argument)
            if inner is not None and index not in images:
                raise _WholeError("a value inside it is read whole")
            place = inputs.index(argument) if inner is None else inner
            operands.append(Operand(place, images.get(index), is_inner=inner is not None))
        return Link(kernel, tuple(operands))


@dataclass(frozen=True)
class _Callees:
    """The functions of kernels of a few rows.

    Attributes:
        kernels: All so far, by name.
    """

    kernels: dict[str, Kernel]
    known: dict[KernelSpec, Callee] = field(default_factory=dict)

    def of(self, kernel: KernelSpec) -> Callee:
        """The function of a kernel, which may begin anywhere in memory."""
        if kernel not in self.known:
            kind, code = code_of(kernel)
            function = code.function(kind, is_aligned=False)
            named = Kernel.of(kind, function.with_attr(EMITTED_ATTRIBUTE, True))
            self.kernels[named.symbol] = named
            self.known[kernel] = Callee(named.symbol, code.arguments)
        return self.known[kernel]
