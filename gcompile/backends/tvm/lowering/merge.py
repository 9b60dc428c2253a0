"""Join runs of kernel calls into one function, as the regions' launches say.

Each call in a Relax function costs a launch. A run of calls that belong to one launch becomes one
TensorIR function: the kernels' statements one after the other, values between them in local
buffers, values that others read as its outputs. Runs of the same kernels, wired alike, share one
function: a deep model repeats its blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.tirx import Buffer
from tvm.tirx.script import builder as T  # noqa: N812 - how all TVMScript is written

from gcompile import ir
from gcompile.backends.tvm.kernels.function import Argument, Code
from gcompile.backends.tvm.kernels.spec import AnyKernel

_Form = tuple[tuple[tuple[Code, tuple[int, ...]], ...], tuple[int, ...]]


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel.

    Attributes:
        kernel: What it computes.
        arguments: What the kernel reads, in its order.
        launch: Calls with the same launch that follow each other become one.
        chain: What it is computed with, some rows of each in turn.
    """

    kernel: AnyKernel
    code: Code
    arguments: tuple[relax.Expr, ...]
    launch: str
    chain: ir.Chain | None = None


def merge_launches(
    module: tvm.IRModule, name: str, calls: Mapping[relax.Var, KernelCall]
) -> tvm.IRModule:
    """Join the calls in the function called `name`; other bindings stay as they are."""
    function = module[name]
    readers = readers_of(function)
    builder = relax.BlockBuilder(module)
    shared: dict[_Form, tvm.ir.GlobalVar] = {}
    blocks, count = [], 0
    for block in function.body.blocks:
        bindings: list[relax.Binding] = []
        runs = itertools.groupby(block.bindings, key=lambda b: _launch(b, calls))
        for launch, run_of in runs:
            run = list(run_of)
            if launch is None or len(run) == 1:
                bindings += run
                continue
            joined = _Run([b.var for b in run], calls, readers)
            form = joined.form
            if form not in shared:
                symbol = f"{name}_launch_{len(shared)}"
                shared[form] = builder.add_func(joined.code().function(symbol), symbol)
            call = f"{name}_launch_{count}"
            count += 1
            bindings += joined.bindings(
                shared[form], call, is_dataflow=isinstance(block, relax.DataflowBlock)
            )
        blocks.append(type(block)(bindings))
    return with_body(builder.get(), name, blocks) if count else module


def _launch(binding: relax.Binding, calls: Mapping[relax.Var, KernelCall]) -> str | None:
    call = calls.get(binding.var)
    return None if call is None else call.launch


def readers_of(function: relax.Function) -> dict[relax.Var, set[relax.Var | None]]:
    """Who reads each variable; None stands for the function's result."""
    readers: dict[relax.Var, set[relax.Var | None]] = {}
    for block in function.body.blocks:
        for binding in block.bindings:
            for variable in relax.analysis.free_vars(binding.value):
                readers.setdefault(variable, set()).add(binding.var)
    for variable in relax.analysis.free_vars(function.body.body):
        readers.setdefault(variable, set()).add(None)
    return readers


def inputs_of(
    results: Sequence[relax.Var], calls: Mapping[relax.Var, KernelCall]
) -> list[relax.Expr]:
    """What calls read that none of them computes, each once."""
    inside = set(results)
    read = [a for v in results for a in calls[v].arguments]
    return list(dict.fromkeys(a for a in read if a not in inside))


def declarations(
    results: Sequence[relax.Var], calls: Mapping[relax.Var, KernelCall]
) -> dict[relax.Expr, Argument]:
    """How each value that calls read or compute is declared: every kernel declares it alike."""
    found: dict[relax.Expr, Argument] = {}
    for variable in results:
        call = calls[variable]
        found |= dict(zip([*call.arguments, variable], call.code.arguments, strict=True))
    return found


def renamed(argument: Argument, name: str) -> Argument:
    """The same declaration under another name."""
    return Argument(name, argument.shape, argument.dtype)


@dataclass(frozen=True)
class _Run:
    """Calls that become one."""

    results: Sequence[relax.Var]
    calls: Mapping[relax.Var, KernelCall]
    readers: Mapping[relax.Var, set[relax.Var | None]]

    @property
    def inputs(self) -> list[relax.Expr]:
        """What comes from outside, each once."""
        return inputs_of(self.results, self.calls)

    @property
    def outputs(self) -> list[relax.Var]:
        """The results that others read."""
        inside = set(self.results)
        return [v for v in self.results if self.readers.get(v, set()) - inside]

    @property
    def form(self) -> _Form:
        """What the joined function depends on: its kernels, and which value goes where."""
        numbers: dict[relax.Expr, int] = {
            v: i for i, v in enumerate((*self.inputs, *self.results))
        }
        wiring = tuple(
            (self.calls[v].code, tuple(numbers[a] for a in self.calls[v].arguments))
            for v in self.results
        )
        return wiring, tuple(numbers[v] for v in self.outputs)

    def code(self) -> Code:
        """All calls as one kernel."""
        inputs, outputs = self.inputs, self.outputs
        shapes = declarations(self.results, self.calls)
        arguments = [renamed(shapes[v], f"input{i}") for i, v in enumerate(inputs)]
        arguments += [renamed(shapes[v], f"output{i}") for i, v in enumerate(outputs)]

        def write(buffers: list[Buffer]) -> None:
            known = dict(zip([*inputs, *outputs], buffers, strict=True))
            for variable in self.results:
                if variable not in known:
                    between = shapes[variable]
                    known[variable] = T.alloc_buffer(
                        between.shape, between.dtype, layout=None, align=64
                    )
            for variable in self.results:
                call = self.calls[variable]
                call.code.write([*(known[a] for a in call.arguments), known[variable]])

        return Code(tuple(arguments), write)

    def bindings(
        self, function: tvm.ir.GlobalVar, name: str, *, is_dataflow: bool
    ) -> list[relax.Binding]:
        """The one call, called `name`, and the results under their old names.

        Functions with branches are not dataflow, and have variables of another kind.
        """
        types = [variable.ty for variable in self.outputs]
        call = relax.call_tir(function, self.inputs, types if len(types) > 1 else types[0])
        if len(types) == 1:
            return [relax.VarBinding(self.outputs[0], call)]
        kind = relax.DataflowVar if is_dataflow else relax.Var
        together = kind(f"{name}_results", relax.TupleType(types))
        items = [
            relax.VarBinding(variable, relax.TupleGetItem(together, index))
            for index, variable in enumerate(self.outputs)
        ]
        return [relax.VarBinding(together, call), *items]


def with_body(
    module: tvm.IRModule, name: str, blocks: Sequence[relax.BindingBlock]
) -> tvm.IRModule:
    old = module[name]
    body = relax.SeqExpr(blocks, old.body.body)
    changed = module.clone()
    changed[name] = relax.Function(old.params, body, old.ret_ty, old.is_pure, old.attrs)
    return relax.transform.Normalize()(changed)
