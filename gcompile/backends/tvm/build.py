"""Generate native code for a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.object_store import ObjectStore
from gcompile.backends.tvm import pipeline
from gcompile.backends.tvm.link import link_library
from gcompile.backends.tvm.llvm_target import (
    llvm_target,
    platform_of,
    required_isa,
    vector_bits,
)
from gcompile.backends.tvm.lowering.graph import Lowered, lower_model
from gcompile.backends.weight_limits import WeightLimits
from gcompile.runtime.manifest import Variant
from gcompile.runtime.weights import WeightsWriter
from gcompile.targets import Target


@dataclass(frozen=True)
class NativeCode:
    """A model as machine code that is not on disk yet.

    Attributes:
        lowered: What was compiled, and where its large weights lie.
    """

    module: pipeline.CompiledModule
    model: ir.Model
    target: Target
    threads: int
    lowered: Lowered

    @property
    def fallbacks(self) -> Mapping[str, str]:
        """Regions that TVM's generic code runs instead of our kernels, with the reason."""
        return self.lowered.fallbacks

    @property
    def peak_memory_bytes(self) -> int:
        """Of activations, while the entry runs."""
        return self.module.peak_memory_bytes

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the report's regions do not say: chains that are not computed depth first."""
        return tuple(
            f"The chain that ends in {name} is computed image by image, and costs more than the "
            f"ledger says: {reason}."
            for name, reason in self.lowered.whole.items()
        )

    @property
    def on_cpu(self) -> None:
        """Nothing stands in for native code."""
        return None

    def write(
        self, name: str, folder: Path, stem: str, writer: WeightsWriter
    ) -> tuple[Variant, list[str]]:
        """Link the library; see `gcompile.backends.code.Code`."""
        library = f"{stem}.so"
        link_library(self.module.executable, folder / library, platform_of(self.target))
        variant = Variant(
            name=name,
            target=self.target.name,
            platform=platform_of(self.target),
            isa_required=required_isa(self.target),
            library=library,
            needs_amx=self.lowered.needs_amx,
            weights=writer.add(self._weights()),
        )
        return variant, [library]

    def _weights(self) -> Iterator[NDArray[np.generic]]:
        """One after the other, and only that one in memory."""
        for tensor in self.module.weights:
            yield tensor
            self.lowered.spill.give_back()


def generate(
    model: ir.Model,
    target: Target,
    threads: int,
    store: ObjectStore | None = None,
    limits: WeightLimits = WeightLimits(),  # noqa: B008 - it is frozen
) -> NativeCode:
    """Compile a model.

    Args:
        model: A ready model, fused and tiled.
        target: The machine that will run it.
        threads: Most threads that work is divided among.
        store: Where compiled kernels are kept between builds; None keeps none.
        limits: Which weights are written to a file of their own.

    Raises:
        TargetError: Code for this target cannot be generated.
        CompileError: A region could be neither emitted nor imported.
    """
    llvm = llvm_target(target, threads)
    own_caches = (memory.size_bytes for memory in target.memories if memory.per_core)
    lowered = lower_model(model, vector_bits(target), max(own_caches, default=0.0))
    module = pipeline.build_module(lowered.module, llvm, threads, store, limits, lowered.kernels)
    return NativeCode(module, model, target, threads, lowered)
