"""Loading and running an artefact without the compiler: the only room a deployment needs.

Importing this room loads the standard library and numpy. `load` brings in tvm_ffi and the TVM
runtime library, never the TVM compiler, onnx or torch.
"""

from gcompile.runtime.load import load
from gcompile.runtime.manifest import FileRecord, Manifest, TensorSpec, Variant
from gcompile.runtime.runner import Runner

__all__ = ["FileRecord", "Manifest", "Runner", "TensorSpec", "Variant", "load"]
