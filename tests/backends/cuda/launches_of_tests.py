"""What the tests of this folder execute, launch by launch: seen, and repeated on a device.

Tests run tile programs by `interpret` and other kernels by `host_forms`. Both are replaced where
the tests import them, by functions that do the same and tell an observer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gcompile.backends.cuda import host_form
from gcompile.backends.cuda.kernel import CpuForm, Kernel
from gcompile.backends.cuda.program import interpret as interpreter
from gcompile.backends.cuda.program.launch import as_kernel
from gcompile.backends.cuda.program.program import Program

Array = NDArray[Any]

Observer = Callable[[Kernel, list[Array], Sequence[Array]], None]
"""Is told of a kernel, what its arguments held before, and the arrays that it wrote into."""

_ROOM = "tests.backends.cuda."


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Tell of all launches of tests that are imported already."""

    def interpret(program: Program, arrays: Sequence[Array], *rest: Any) -> interpreter.Run:
        before = [np.array(array) for array in arrays]
        run = interpreter.interpret(program, arrays, *rest)
        observer(as_kernel(program), before, arrays)
        return run

    def host_forms(kernels: Iterable[Kernel]) -> dict[str, CpuForm]:
        known = {kernel.name: kernel for kernel in kernels}
        forms = host_form.host_forms(known.values())
        return {name: told(known[name], form) for name, form in forms.items()}

    def told(kernel: Kernel, form: CpuForm) -> CpuForm:
        def execute(arrays: Sequence[Array]) -> None:
            before = [np.array(array) for array in arrays]
            form(arrays)
            observer(kernel, before, arrays)

        return execute

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith(_ROOM)]:
            module = sys.modules[name]
            if getattr(module, "interpret", None) is interpreter.interpret:
                patch.setattr(module, "interpret", interpret)
            if getattr(module, "host_forms", None) is host_form.host_forms:
                patch.setattr(module, "host_forms", host_forms)
        yield


def launches_kernels(module: object) -> bool:
    """Whether a test module executes kernels, itself or through what it imports of this folder."""
    names = vars(module).values()
    homes = {getattr(value, "__module__", "") or "" for value in names}
    near = [sys.modules[home] for home in homes if home.startswith(_ROOM)]
    return any(
        getattr(each, "interpret", None) is interpreter.interpret
        or getattr(each, "host_forms", None) is host_form.host_forms
        for each in (module, *near)
    )
