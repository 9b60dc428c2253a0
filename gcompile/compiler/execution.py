"""Where compiled code runs to be measured: on this CPU, on an emulator, or nowhere.

    this CPU has the instructions → here; an emulator was named → there; else the reference runtime
    runs the optimised model in place of the code, and nothing verifies the code

The optimised model has the numerics of the code: precisions, scales and fusions are in it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

import gcompile
from gcompile import ir, runtime
from gcompile.backends.code import Code
from gcompile.backends.code import OnCpu as RunOnCpu
from gcompile.backends.cuda.architecture import arch_of
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.backends.tvm.llvm_target import platform_of, required_isa
from gcompile.errors import RunError, UsageError
from gcompile.passes import Arrays
from gcompile.runtime.cuda.device import why_no_gpu
from gcompile.runtime.isa import cpu_flags, why_not_here
from gcompile.search import Dataset
from gcompile.targets import Target

Array = NDArray[np.generic]
CodeRan = Literal["natively", "emulated", "on-cpu", "no"]


class Execution(Protocol):
    """Something that computes what a compiled model computes."""

    @property
    def code_ran(self) -> CodeRan:
        """Whether it is the code itself that runs."""

    def outputs(self, inferences: Sequence[Arrays]) -> list[dict[str, Array]]:
        """Run inferences; the results are in the same order."""

    def joined(self, rows: Dataset) -> dict[str, Array]:
        """Run every row; the results are joined along axis 0, as the reference does."""


@dataclass(frozen=True)
class Executor:
    """Runs code for one target.

    Attributes:
        why_not_here: Why this machine cannot execute the code; empty where it can.
        emulator: The command that starts Python on an emulated machine that can; may be empty.
    """

    why_not_here: str = ""
    emulator: tuple[str, ...] = ()

    @classmethod
    def of(cls, target: Target, emulator: str | None) -> Executor:
        """Compare what code for the target needs with this machine.

        Raises:
            TargetError: Code for this target cannot be generated.
            UsageError: The emulator's command cannot be read.
        """
        reason = _why_not_here(target)
        try:
            return cls(reason, tuple(shlex.split(emulator or "")))
        except ValueError as error:
            raise UsageError(f"The emulator {emulator!r} is not a command: {error}.") from error

    @property
    def code_ran(self) -> CodeRan:
        """How the code of an artefact will be run."""
        if not self.why_not_here:
            return "natively"
        return "emulated" if self.emulator else "no"

    def open(self, folder: Path, variant: str, model: ir.Model) -> Execution:
        """Open a variant of an artefact, or the optimised model in its place.

        Args:
            folder: The artefact.
            variant: The name of the variant.
            model: The model that was compiled into it.
        """
        if not self.why_not_here:
            return Native(runtime.load(folder, variant=variant))
        if self.emulator:
            return Emulated(folder, variant, self.emulator)
        return Reference(model)

    def checked(self, execution: Execution, code: Code) -> Execution:
        """What the verification runs: the code, or its CPU form where no device runs it."""
        run = code.on_cpu if execution.code_ran == "no" else None
        return execution if run is None else OnCpu(run)


def _why_not_here(target: Target) -> str:
    if target.kind == "gpu":
        return why_no_gpu(arch_of(target))
    return why_not_here(platform_of(target), required_isa(target), cpu_flags())


class _OneByOne:
    """Rows are run as single inferences."""

    def outputs(self, inferences: Sequence[Arrays]) -> list[dict[str, Array]]:
        raise NotImplementedError

    def joined(self, rows: Dataset) -> dict[str, Array]:
        found = self.outputs(list(single_inferences(rows)))
        return {
            name: np.concatenate([np.atleast_1d(outputs[name]) for outputs in found])
            for name in found[0]
        }


@dataclass(frozen=True)
class Native(_OneByOne):
    """The code, on this CPU."""

    runner: runtime.Runner
    code_ran: CodeRan = "natively"

    def outputs(self, inferences: Sequence[Arrays]) -> list[dict[str, Array]]:
        found = [self.runner.run(inputs) for inputs in inferences]
        self.runner.rest()  # The reference is next, and has weights of its own.
        return found


@dataclass(frozen=True)
class OnCpu(_OneByOne):
    """The CPU form of code for a GPU: the text of its kernels, compiled for this CPU."""

    run: RunOnCpu
    code_ran: CodeRan = "on-cpu"

    def outputs(self, inferences: Sequence[Arrays]) -> list[dict[str, Array]]:
        return [dict(self.run(inputs)) for inputs in inferences]


@dataclass(frozen=True)
class Emulated(_OneByOne):
    """The code, in a Python that a command such as `qemu-aarch64 -L ROOT PYTHON` starts."""

    folder: Path
    variant: str
    command: tuple[str, ...]
    code_ran: CodeRan = "emulated"

    def outputs(self, inferences: Sequence[Arrays]) -> list[dict[str, Array]]:
        entry = runtime.Manifest.read(self.folder).entry_point()
        with tempfile.TemporaryDirectory(prefix="gcompile-") as folder:
            given, found = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
            np.savez(given, *(np.stack([row[s.name] for row in inferences]) for s in entry.inputs))
            self._call(str(self.folder), self.variant, str(given), str(found))
            with np.load(found) as arrays:
                flat = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
        names = [spec.name for spec in entry.returned]
        rows = [flat[at : at + len(names)] for at in range(0, len(flat), len(names))]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _call(self, *arguments: str) -> None:
        command = [*self.command, "-m", "gcompile.runtime.rows", *arguments]
        here = str(Path(gcompile.__file__).parents[1])
        paths = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | {"PYTHONPATH": paths},
            )
        except OSError as error:
            raise RunError(
                f"The emulator {command[0]!r} cannot be started: {error.strerror}. Install it, or "
                "build without --emulator."
            ) from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            raise RunError(
                f"The emulator {command[0]!r} did not run the code: {lines[-1][:300]}. It must "
                "start a Python with numpy, tvm_ffi and TVM's runtime for the emulated machine."
            )


@dataclass(frozen=True)
class Reference:
    """The optimised model on the reference runtime, in place of code that cannot run."""

    model: ir.Model
    code_ran: CodeRan = "no"

    def outputs(self, inferences: Sequence[Arrays]) -> list[dict[str, Array]]:
        run = OnnxRuntime()
        return [run(self.model, inputs) for inputs in inferences]

    def joined(self, rows: Dataset) -> dict[str, Array]:
        return OnnxRuntime()(self.model, rows.inputs)


def single_inferences(rows: Dataset) -> Iterator[Arrays]:
    """The inputs of one inference after the other."""
    for index in range(rows.count):
        yield rows.between(index, index + 1).inputs
