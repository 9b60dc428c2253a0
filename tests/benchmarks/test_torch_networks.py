"""The networks of the comparison are the same ones in PyTorch."""

from __future__ import annotations

import math

import pytest

from benchmarks.gpu.models import NETWORKS
from benchmarks.networks import network

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

_OUTPUTS = {"bert-base": (1, 128, 2), "llama-layer": (1, 128, 2048)}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_outputs_are_those_of_the_onnx_network(name: str) -> None:
    from benchmarks.gpu.bare.torch_networks import torch_network

    module, x = torch_network(name, 1, "cpu")
    with torch.inference_mode():
        assert tuple(module(x).shape) == _OUTPUTS.get(name, (1, 1000))
    mine = sum(parameter.numel() for parameter in module.parameters())
    graph = network(NETWORKS[name]).graph
    theirs = sum(math.prod(t.dims) for t in graph.initializer if t.external_data)
    assert mine == pytest.approx(theirs, rel=0.01)
