"""Loading and running an artefact without the compiler: the only room a deployment needs.

Importing this room loads the standard library and numpy. `load` brings in tvm_ffi and the TVM
runtime library, never the TVM compiler, onnx or torch.
"""

from gcompile.runtime.entry_point import EntryPoint, TensorSpec
from gcompile.runtime.load import load, load_entries
from gcompile.runtime.manifest import FileRecord, Manifest, Variant
from gcompile.runtime.runner import Runner
from gcompile.runtime.session import Session

__all__ = [
    "EntryPoint",
    "FileRecord",
    "Manifest",
    "Runner",
    "Session",
    "TensorSpec",
    "Variant",
    "load",
    "load_entries",
]
