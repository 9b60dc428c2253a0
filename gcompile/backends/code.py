"""Code for a target, whatever kind it is, before it is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.object_store import ObjectStore
from gcompile.backends.weight_limits import WeightLimits
from gcompile.passes import Arrays
from gcompile.runtime.manifest import Variant
from gcompile.runtime.weights import WeightsWriter
from gcompile.targets import Target

OnCpu = Callable[[Arrays], Mapping[str, NDArray[Any]]]
"""Runs one inference in place of code for another device."""


class Code(Protocol):
    """A model as code for one target."""

    @property
    def model(self) -> ir.Model:
        """The model that was compiled."""

    @property
    def target(self) -> Target:
        """The machine that runs the code."""

    @property
    def threads(self) -> int:
        """Most threads of a CPU that work is divided among."""

    @property
    def fallbacks(self) -> Mapping[str, str]:
        """Regions that generic code runs instead of our kernels, with the reason."""

    @property
    def peak_memory_bytes(self) -> int:
        """Of activations, while one inference runs."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a report should tell of the code, as sentences."""

    @property
    def on_cpu(self) -> OnCpu | None:
        """The CPU form of code for a device that is not a CPU; None where there is none."""

    def write(
        self, name: str, folder: Path, stem: str, writer: WeightsWriter
    ) -> tuple[Variant, list[str]]:
        """Write the variant's files.

        Args:
            name: Of the variant.
            folder: Where the files go.
            stem: What their names begin with.
            writer: Takes up the weights.

        Returns:
            What the manifest says of the variant, and the names of the files.
        """


def check_target(target: Target) -> None:
    """Find out whether code for a target can be generated here, before any work starts.

    Raises:
        TargetError: Code for this target cannot be generated.
        BackendUnavailableError: A tool that is needed for it is missing here.
    """
    if target.kind == "gpu":
        from gcompile.backends.cuda.architecture import arch_of
        from gcompile.backends.cuda.toolchain import nvrtc

        nvrtc().check(arch_of(target))
        return
    from gcompile.backends.tvm.llvm_target import platform_of
    from gcompile.runtime.isa import host_platform

    platform = platform_of(target)
    if platform != host_platform():
        from gcompile.backends.tvm.link import cross_linker

        cross_linker(platform)


def generate(
    model: ir.Model,
    target: Target,
    threads: int,
    store: ObjectStore | None = None,
    limits: WeightLimits = WeightLimits(),  # noqa: B008 - it is frozen
) -> Code:
    """Compile a model.

    Args:
        model: A ready model, fused and tiled.
        target: The machine that will run it.
        threads: Most threads of a CPU that work is divided among.
        store: Where compiled kernels are kept between builds; None keeps none.
        limits: Which weights of code for CPUs are written to a file of their own.

    Raises:
        TargetError: Code for this target cannot be generated.
        CompileError: A region could be neither emitted nor imported.
    """
    if target.kind == "gpu":
        from gcompile.backends.cuda.build import generate as generate_cuda

        return generate_cuda(model, target, threads, store)
    from gcompile.backends.tvm.build import generate as generate_native

    return generate_native(model, target, threads, store, limits)
