"""Open an artefact: check it, then load its native code into this process."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcompile.errors import ArtifactError, BackendUnavailableError
from gcompile.runtime.isa import cpu_flags
from gcompile.runtime.manifest import WEIGHTS_NAME, Manifest, Variant
from gcompile.runtime.runner import Runner
from gcompile.runtime.threads import thread_count, use_threads
from gcompile.runtime.variants import runnable_variants
from gcompile.runtime.weights import Array, map_weights

AMX_PERMISSION_FUNCTION = "amx_init"
"""The function of an artefact that asks Linux for AMX tiles; it writes 0 when they are granted."""

_CPU_DEVICE = (1, 0)
_POOLED_ALLOCATOR = 2


def load(
    folder: str | Path,
    *,
    threads: int | None = None,
    bind: bool = False,
    variant: str | None = None,
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

    Raises:
        ArtifactError: The artefact is damaged, was changed, or does not fit this machine.
        BackendUnavailableError: The TVM runtime is not installed.
        RunError: `threads` is not a number of threads this process can use.
        UnknownNameError: The artefact has no variant of that name.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    variants = runnable_variants(manifest, variant, cpu_flags())
    count = thread_count(threads, manifest.threads)
    manifest.check_files(folder)
    chosen, module = _first_granted(folder.resolve(), variants)
    configure = _global_function("runtime.config_threadpool")

    def prepare_thread() -> None:
        use_threads(configure, count, bind, is_serial=manifest.threads == 1)

    prepare_thread()
    machine = module["vm_load_executable"]()
    machine["vm_initialization"](*_CPU_DEVICE, _POOLED_ALLOCATOR, *_CPU_DEVICE, _POOLED_ALLOCATOR)
    tensors = map_weights(folder / WEIGHTS_NAME, manifest.weights)
    weights = [tensors[index] for index in chosen.weights]
    return Runner(
        manifest, chosen, _with_weights(machine[manifest.entry], weights), prepare_thread
    )


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
