"""Cases of ONNX's own test suite that passed keep passing: those of `conformance.txt`.

The whole suite, beside other backends, is `benchmarks/onnx_conformance.py`.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.backend.test.case import node
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.runner import Runner

from gcompile.backends.onnx_backend import GcompileBackend

CASES = [
    line.split() for line in Path(__file__).with_name("conformance.txt").read_text().splitlines()
]
"""The module of ONNX that makes a case, and the name of the case."""


def made_by(module: str, name: str) -> TestCase:
    """ONNX makes the cases of an operator when their module is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    return next(case for case in node._NodeTestCases if case.name == name)


def array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@pytest.mark.parametrize(("module", "name"), CASES, ids=[name for _, name in CASES])
def test_it_passes(module: str, name: str) -> None:
    case = made_by(module, name)
    compiled = GcompileBackend.prepare(case.model)
    for inputs, outputs in case.data_sets:
        found = list(compiled.run([array(value) for value in inputs]))
        Runner.assert_similar_outputs([array(v) for v in outputs], found, case.rtol, case.atol)
