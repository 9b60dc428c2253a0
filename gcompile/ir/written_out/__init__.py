"""Operators without kernels, written out in operators that have them.

Where ONNX itself defines an operator by others, `expand_functions` does the same.
"""
