"""Generate machine code of an NVIDIA GPU for a model; neither a GPU nor a driver is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gcompile import ir
from gcompile.backends.code import OnCpu
from gcompile.backends.cuda import host_form
from gcompile.backends.cuda.architecture import PLATFORM, arch_of
from gcompile.backends.cuda.compile_kernels import compile_kernels
from gcompile.backends.cuda.host_execution import HostExecution
from gcompile.backends.cuda.launches import Program
from gcompile.backends.cuda.ledger import emitted
from gcompile.backends.cuda.lowering.model import lower_model
from gcompile.backends.cuda.planning import plan_of
from gcompile.backends.cuda.toolchain import MachineCode, nvrtc
from gcompile.backends.object_store import ObjectStore
from gcompile.runtime.counts import Count
from gcompile.runtime.cuda.plan import Code, Format, Plan
from gcompile.runtime.entry_point import TensorSpec
from gcompile.runtime.manifest import Variant
from gcompile.runtime.weights import WeightsWriter
from gcompile.targets import Target

_FIRST_DRIVER = {100: 12080, 101: 12080, 103: 12090, 120: 12080, 121: 12090}
"""The CUDA version of the first driver that knows an architecture newer than CUDA 12 itself."""


@dataclass(frozen=True)
class CudaCode:
    """A model as machine code of a GPU that is not on disk yet.

    Attributes:
        arch: 80 for sm_80.
        machine_code: Of each kernel, in the order of `program.kernels`.
        driver: The oldest driver that loads the code, as CUDA numbers it.
    """

    program: Program
    model: ir.Model
    target: Target
    threads: int
    arch: int
    machine_code: Sequence[MachineCode]
    driver: int
    fallbacks: Mapping[str, str]

    @cached_property
    def plan(self) -> Plan:
        """The plan, without the files that hold its code."""
        return plan_of(self.program, driver=self.driver)

    @property
    def peak_memory_bytes(self) -> int:
        """Of activations, while one inference runs."""
        return self.plan.arena_bytes

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was emitted, and what it should cost: fusion does not follow regions exactly."""
        found = emitted(self.program, self.target)
        sparse = f" ({found.sparse_launches} with 2:4 weights)" if found.sparse_launches else ""
        spilled = sum(code.spilled_bytes > 0 for code in self.machine_code)
        return (
            f"As emitted, one inference is {found.launches} launches, {found.tensor_launches} of "
            f"them on tensor cores{sparse} and {found.narrow_launches} with fewer blocks than the "
            f"GPU has processors; they move {found.bytes / 1e6:.2f} MB and should take "
            f"{1e3 * found.cost.energy_j:.3g} mJ and {1e3 * found.cost.time_s:.3g} ms. "
            f"Kernels that spill registers: {spilled}.",
        )

    @property
    def on_cpu(self) -> OnCpu | None:
        """The plan, run by the CPU forms of its kernels; None without a C++ compiler."""
        if host_form.why_unavailable():
            return None
        forms = host_form.host_forms(self.program.kernels)
        graph = self.model.graph
        return HostExecution(
            self.plan,
            self.program.kernels,
            forms,
            self.program.weights,
            [_spec(value) for value in graph.inputs],
            [_spec(value) for value in graph.outputs],
            tuple(Count(*item) for item in ir.counts_of(self.model)),
        ).run

    def write(
        self, name: str, folder: Path, stem: str, writer: WeightsWriter
    ) -> tuple[Variant, list[str]]:
        """Write the plan and the kernels; see `gcompile.backends.code.Code`.

        PTX of kernels with instructions of one architecture alone would not run on newer ones.
        """
        cubins = [code.cubin for code in self.machine_code]
        file = f"{stem}.sm_{self.arch}.cubin"
        codes = [_write_code(folder, file, "cubin", self.arch, cubins)]
        if not any(kernel.only_arch for kernel in self.program.kernels):
            texts = [code.ptx for code in self.machine_code]
            file = f"{stem}.compute_{self.arch}.ptx"
            codes.append(_write_code(folder, file, "ptx", self.arch, texts))
        library = f"{stem}.plan.json"
        plan = plan_of(self.program, codes, self.driver)
        (folder / library).write_text(plan.to_text(), encoding="utf-8")
        variant = Variant(
            name=name,
            target=self.target.name,
            platform=PLATFORM,
            isa_required=(f"sm_{self.arch}",),
            library=library,
            weights=writer.add(self.program.weights),
        )
        return variant, [library, *(code.file for code in codes)]


def generate(
    model: ir.Model, target: Target, threads: int, store: ObjectStore | None = None
) -> CudaCode:
    """Compile a model for one GPU.

    Args:
        model: A ready model, fused and tiled.
        target: The GPU.
        threads: Has no meaning on a GPU; kept for the report.
        store: Where machine code is kept between builds; None keeps none.

    Raises:
        TargetError: The target does not say its architecture.
        BackendUnavailableError: NVRTC is missing.
        CompileError: Some operator has no kernel.
    """
    arch, compiler = arch_of(target), nvrtc()
    lowered = lower_model(model, target, arch)
    code = compile_kernels(lowered.program.kernels, arch, compiler, store)
    driver = _FIRST_DRIVER.get(arch, compiler.version[0] * 1000)
    return CudaCode(lowered.program, model, target, threads, arch, code, driver, lowered.fallbacks)


def _write_code(
    folder: Path, file: str, format_: Format, arch: int, pieces: Sequence[bytes]
) -> Code:
    """Write kernels one after the other."""
    spans, start = [], 0
    with (folder / file).open("wb") as out:
        for piece in pieces:
            out.write(piece)
            spans.append((start, len(piece)))
            start += len(piece)
    return Code(file, format_, arch, tuple(spans))


def _spec(value: ir.Value) -> TensorSpec:
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    return TensorSpec(str(value.name), str(dtype.name), ir.static_shape(value))
