"""Open an artefact: check it, then load its native code into this process."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gcompile.errors import ArtifactError, BackendUnavailableError, RunError
from gcompile.runtime.cuda.open import open_cuda
from gcompile.runtime.entry_point import EntryPoint
from gcompile.runtime.isa import cpu_flags
from gcompile.runtime.ladder_runner import LadderRunner
from gcompile.runtime.manifest import WEIGHTS_NAME, Manifest, Variant
from gcompile.runtime.runner import NativeRunner, Runner
from gcompile.runtime.threads import thread_count, use_threads
from gcompile.runtime.variants import CUDA, runnable_variants
from gcompile.runtime.weights import Array, map_weights

AMX_PERMISSION_FUNCTION = "amx_init"
"""The function of an artefact that asks Linux for AMX tiles; it writes 0 when they are granted."""

_FUNCTION = "main"
"""What every library calls the function that runs its entry point."""
_CPU_DEVICE = (1, 0)
_POOLED_ALLOCATOR = 2


def load(
    folder: str | Path,
    *,
    threads: int | None = None,
    bind: bool = False,
    variant: str | None = None,
    entry: str | None = None,
    device: int | None = None,
) -> Runner:
    """Load a compiled model: of its variants, the first in its manifest that this machine runs.

    Nothing of the artefact is executed before its manifest is validated, its files match their
    hashes and this machine is known to have the instructions it uses.

    Args:
        folder: The artefact, as `gcompile build` wrote it.
        threads: Threads to run on; by default as many as it was compiled for, where this process
            may use that many CPUs.
        bind: Pin the calling thread and the workers to one CPU each (see `threads.py`).
        variant: The name of the variant to load instead.
        entry: The entry point to load, where the artefact has several. Those that are one model
            at several sizes are loaded together without it: the runner takes all sizes.
        device: Which GPU runs a variant for GPUs, as the driver counts; by default the first.

    Raises:
        ArtifactError: The artefact is damaged, was changed, or does not fit this machine.
        BackendUnavailableError: The TVM runtime is not installed.
        RunError: `threads` is not a number of threads this process can use, or the artefact has
            several entry points and none is named.
        UnknownNameError: The artefact has no variant or no entry point of that name.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    if manifest.ladder is not None and entry is None:
        runners = load_entries(folder, threads=threads, bind=bind, variant=variant, device=device)
        return LadderRunner(manifest, manifest.ladder, runners)
    name = manifest.entry_point(entry).name
    found = load_entries(
        folder, [name], threads=threads, bind=bind, variant=variant, device=device
    )
    return found[name]


def load_entries(
    folder: str | Path,
    names: Iterable[str] | None = None,
    *,
    threads: int | None = None,
    bind: bool = False,
    variant: str | None = None,
    device: int | None = None,
) -> dict[str, Runner]:
    """Load several entry points of an artefact, by default all; its weights are mapped once.

    Args and errors are those of `load`.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    points = manifest.entries if names is None else map(manifest.entry_point, names)
    wanted = {
        point: runnable_variants(manifest, point.name, variant, cpu_flags()) for point in points
    }
    count = thread_count(threads, manifest.threads)
    manifest.check_files(folder)
    loader = _Loader(folder, manifest, count, bind, device)
    return {point.name: loader.runner(point, variants) for point, variants in wanted.items()}


@dataclass
class _Loader:
    """Loads entry points of one artefact, whose files were checked."""

    folder: Path
    manifest: Manifest
    threads: int
    bind: bool
    device: int | None
    machines: dict[str, Any] = field(default_factory=dict)
    """By library: entry points that differ in weights only share one."""

    @cached_property
    def tensors(self) -> list[Array]:
        return map_weights(self.folder / WEIGHTS_NAME, self.manifest.weights)

    def runner(self, point: EntryPoint, variants: Sequence[Variant]) -> Runner:
        if variants[0].platform == CUDA:
            return self._on_gpu(point, variants[0])
        if self.device is not None:
            raise RunError(
                f"The variant {variants[0].name!r} runs on the CPU, and GPU {self.device} was "
                "asked for; load it without naming a GPU."
            )
        return self._on_cpu(point, [each for each in variants if each.platform != CUDA])

    def _on_gpu(self, point: EntryPoint, variant: Variant) -> Runner:
        weights = [self.tensors[index] for index in variant.weights]
        return open_cuda(
            self.folder.resolve(), self.manifest, point, variant, weights, self.device or 0
        )

    def _on_cpu(self, point: EntryPoint, variants: Sequence[Variant]) -> Runner:
        chosen, module = _first_granted(self.folder.resolve(), variants)
        configure = _global_function("runtime.config_threadpool")

        def prepare_thread() -> None:
            use_threads(configure, self.threads, self.bind, is_serial=self.manifest.threads == 1)

        prepare_thread()
        if chosen.library not in self.machines:
            self.machines[chosen.library] = _started(module)
        weights = [self.tensors[index] for index in chosen.weights]
        function = self.machines[chosen.library][_FUNCTION]
        return NativeRunner(
            self.manifest, point, chosen, _with_weights(function, weights), prepare_thread, weights
        )


def _started(module: Any) -> Any:
    machine = module["vm_load_executable"]()
    machine["vm_initialization"](*_CPU_DEVICE, _POOLED_ALLOCATOR, *_CPU_DEVICE, _POOLED_ALLOCATOR)
    return machine


def _first_granted(folder: Path, variants: Sequence[Variant]) -> tuple[Variant, Any]:
    """Load the first variant whose instructions the operating system lets this process use."""
    for variant in variants:
        module = _load_native_code(folder / variant.library)
        if not variant.needs_amx or _amx_is_granted(module):
            return variant, module
    raise ArtifactError(
        "The artefact uses AMX and the operating system did not grant it; "
        "compile the model for a target without AMX."
    )


def _with_weights(entry: Callable[..., Any], weights: Sequence[Array]) -> Callable[..., Any]:
    """Call the entry with the inputs and then the weights, which stay alive as long as it does."""
    if not weights:
        return entry
    import tvm_ffi

    arguments = [tvm_ffi.from_dlpack(tensor) for tensor in weights]
    return lambda *inputs: entry(*inputs, *arguments)


def _load_native_code(library: Path) -> Any:
    try:
        import tvm_ffi
    except ImportError as error:
        raise BackendUnavailableError(
            "Running an artefact needs tvm_ffi; install it with `pip install apache-tvm-ffi`."
        ) from error
    ctypes.CDLL(str(_runtime_library()), mode=ctypes.RTLD_GLOBAL)
    try:
        return tvm_ffi.load_module(str(library))
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"{library.name} cannot be loaded ({_last_line(error)}); compile the model again."
        ) from error


def _runtime_library() -> Path:
    """Find libtvm_runtime.so in the installed TVM package without importing that package."""
    spec = importlib.util.find_spec("tvm")
    for location in (spec.submodule_search_locations if spec else None) or ():
        candidate = Path(location) / "lib" / "libtvm_runtime.so"
        if candidate.is_file():
            return candidate
    raise BackendUnavailableError(
        "Running an artefact needs TVM's libtvm_runtime.so; install it with "
        "`pip install apache-tvm`."
    )


def _global_function(name: str) -> Callable[..., object]:
    import tvm_ffi

    function: Callable[..., object] = tvm_ffi.get_global_func(name)
    return function


def _amx_is_granted(module: Any) -> bool:
    import tvm_ffi

    answer = np.full(1, -1, "int32")
    module.get_function(AMX_PERMISSION_FUNCTION, query_imports=True)(tvm_ffi.from_dlpack(answer))
    return bool(answer[0] == 0)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:200]
