"""ONNX Runtime: the reference that compiled code and rewrites are compared with."""

from gcompile.backends.onnxruntime.runtime import OnnxRuntime, run
from gcompile.backends.onnxruntime.session import Optimization, why_unavailable

__all__ = ["OnnxRuntime", "Optimization", "run", "why_unavailable"]
