"""The frame every kernel shares: a TensorIR function, its arguments and its parallel loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.spec import Image, Kernel


@dataclass(frozen=True, slots=True)
class Argument:
    """One tensor argument of a function."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of_image(cls, name: str, image: Image) -> Argument:
        """An argument with the shape under which Relax knows the image."""
        return cls(name, image.tensor_shape, image.storage_dtype)


@dataclass(frozen=True, slots=True)
class Tensors:
    """The buffers of the part all kernels share; images have their four dimensions."""

    channel_vectors: tuple[Buffer, ...]
    sources: tuple[Buffer, ...]
    output: Buffer


_ALIGNMENT = 64
"""Bytes that the memory of a tensor of its own begins at a multiple of."""


def prim_func(
    name: str,
    arguments: Sequence[Argument],
    body: Callable[[list[Buffer]], None],
    *,
    is_aligned: bool = True,
) -> PrimFunc:
    """Build a function: `body` receives the argument buffers and emits the statements.

    Without alignment, arguments may begin at any element of another tensor.
    """
    alignments = [
        _ALIGNMENT if is_aligned else np.dtype(item.dtype).itemsize for item in arguments
    ]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        buffers = [
            T.arg(item.name, T.Buffer(item.shape, item.dtype, layout=None, align=alignment))
            for item, alignment in zip(arguments, alignments, strict=True)
        ]
        with T.sblock("root"):  # relax.build refuses a function without it.
            T.reads([])
            T.writes([])
            body(buffers)
    return builder.get()


@dataclass(frozen=True, slots=True)
class Code:
    """A kernel that can become a function of its own, or part of a longer one.

    Attributes:
        write: Emits the statements, given one buffer for each argument. The output is the last.
    """

    arguments: tuple[Argument, ...]
    write: Callable[[list[Buffer]], None]

    def function(self, name: str, *, is_aligned: bool = True) -> PrimFunc:
        """Make a function of its own; see `prim_func`."""
        return prim_func(name, self.arguments, self.write, is_aligned=is_aligned)


def kernel_code(
    kernel: Kernel,
    leading: Sequence[Argument],
    body: Callable[[list[Buffer], Tensors], None],
) -> Code:
    """Put a kernel's code together: the leading arguments, then those that all kernels share.

    `body` receives the leading buffers as they are declared, and the shared tensors.
    """
    channels = kernel.output.image.channels
    vectors = [
        Argument(f"vector{index}", (channels,), "float32")
        for index in range(kernel.channel_vectors)
    ]
    sources = [
        Argument.of_image(f"source{index}", source.image)
        for index, source in enumerate(kernel.sources)
    ]
    output = Argument.of_image("output", kernel.output.image)

    def emit(buffers: list[Buffer]) -> None:
        remaining = iter(buffers)
        first = [next(remaining) for _ in leading]
        tensors = Tensors(
            channel_vectors=tuple(next(remaining) for _ in vectors),
            sources=tuple(view(next(remaining), source.image.shape) for source in kernel.sources),
            output=view(next(remaining), kernel.output.image.shape),
        )
        body(first, tensors)

    return Code((*leading, *vectors, *sources, output), emit)


def view(buffer: Buffer, shape: tuple[int, ...]) -> Buffer:
    """The same memory under another shape with as many elements."""
    if tuple(int(size) for size in buffer.shape) == shape:
        return buffer
    return T.decl_buffer(shape, buffer.dtype, data=buffer.data, layout=None)


def tasks(threads: int, body: Callable[[Expr], None]) -> None:
    """Run `body(task)` for every task, in parallel; one task needs no launch at all."""
    if threads == 1:
        body(0)
        return
    with T.parallel(threads) as task:
        body(task)


def share(count: int, task: Expr, threads: int) -> tuple[Expr, Expr]:
    """The first item of a task and the first one after it; shares differ by at most one item."""
    return task * count // threads, (task + 1) * count // threads


def loop(start: Expr, stop: Expr, body: Callable[[Expr], None]) -> None:
    """A serial loop over [start, stop)."""
    with T.serial(start, stop) as index:
        body(index)


def parallel(threads: int, count: int, body: Callable[[Expr], None]) -> None:
    """Run `body(index)` for every index below `count`, shared out among the threads."""
    tasks(threads, lambda task: loop(*share(count, task, threads), body))


def when(condition: Expr | bool, body: Callable[[], None]) -> None:
    """Run `body` under a condition; one that is known now costs nothing later."""
    if isinstance(condition, bool):
        if condition:
            body()
        return
    with T.If(condition), T.Then():
        body()


def llvm_functions(text: str) -> AbstractContextManager[None]:
    """Statements that may call functions given as LLVM text; no text, no functions."""
    return T.attr(0, "pragma_import_llvm", text) if text else nullcontext()


def prefetch(buffer: Buffer, indices: Sequence[Expr], locality: int = 3) -> None:
    """Ask for the cache line of an element that will be read; it need not exist.

    Args:
        buffer: Where it lies.
        indices: Of the element.
        locality: 3 brings the line into the first-level cache, 2 into the second.
    """
    address = T.address_of(buffer[tuple(indices)])
    hints = (T.int32(0), T.int32(locality), T.int32(1))
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch.p0", address, *hints))


HERE = """
define linkonce_odr hidden i32 @gcompile.here(i32 %x) alwaysinline nounwind {
  %same = call i32 asm sideeffect "", "=r,0"(i32 %x)
  ret i32 %same
}
"""
"""The LLVM function that `here` calls."""


def here(address: Expr) -> Expr:
    """The same address, of which LLVM does not know that it is the same.

    What is read from it is read where it is used. LLVM would read it before a loop that does not
    change the address, and keep it on the stack when registers run out.
    """
    return T.call_extern("int32", "gcompile.here", address)


def scratch(size: int, dtype: str) -> Buffer:
    """Memory of the task's own, which loop variables may index."""
    return T.alloc_buffer((size,), dtype, layout=None, align=64)
