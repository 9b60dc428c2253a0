"""Compiled kernels on disk, found again by their content.

    name by content → look up → compile what is missing, in parallel → store

Most kernels of a build were in an earlier one: of the same model at other precisions, of another
candidate of a search, of a model with a layer like it.
"""

from gcompile.backends.tvm.cache.kernels import Kernel, compile_kernels, named_by_content

__all__ = ["Kernel", "compile_kernels", "named_by_content"]
