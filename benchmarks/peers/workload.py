"""What is timed: a model as a static ONNX file, and seeded samples of its inputs beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from benchmarks.networks import draw_weights, network, resnet18
from benchmarks.tasks import SHAPES

Array = NDArray[np.generic]

NETWORKS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenet-v1": "mobilenet-v1-1.0-224",
    "mobilenet-v2": "mobilenet-v2-1.0-224",
    "efficientnet-lite0": "efficientnet-lite0",
    "squeezenet": "squeezenet",
    "bert-base-128": "bert-base-128",
    "vit-tiny": "vit-tiny",
    "audio-transformer": "audio-transformer",
}
"""The networks of the suite, and what `benchmarks.networks` calls them."""

LAYERS = (
    "gemm-128-768-768", "gemm-128-768-3072", "gemm-512-512-512", "gemm-1-4096-4096",
    "conv-112-3-64-7-2", "conv-56-64-64-3-1", "conv-28-128-128-3-1", "conv-14-256-256-3-1",
    "conv-7-512-512-3-1", "conv-14-1024-256-1-1", "depthwise-56-144-3", "depthwise-14-480-5",
)  # fmt: skip
"""Single products and convolutions; see `benchmarks.networks.network`."""

SAMPLES = 8
_TRANSFORMERS = ("bert", "vit", "audio", "minilm")
_ATTENTION_OPS = {"Softmax", "MatMul", "LayerNormalization"}


@dataclass(frozen=True)
class Workload:
    """One model, ready for every contender.

    Attributes:
        path: A model whose input shapes are all fixed.
        operations: Two per multiply-accumulate of dense and depthwise products.
        is_transformer: It has attention, for quantizers that ask.
    """

    name: str
    path: Path
    operations: int
    is_transformer: bool

    @property
    def samples(self) -> dict[str, Array]:
        """For every input, `SAMPLES` inferences stacked along a new first axis."""
        with np.load(self.path.with_suffix(".npz")) as file:
            return {name: file[name] for name in file.files}

    @property
    def inputs(self) -> dict[str, Array]:
        """The inputs of one inference."""
        return {name: stacked[0] for name, stacked in self.samples.items()}


def names(data: Path | None) -> list[str]:
    """The whole suite; models of the folder `data` come last."""
    files = sorted(data.glob("*.onnx")) if data else []
    return [*NETWORKS, *LAYERS, *(file.stem for file in files)]


def is_layer(name: str) -> bool:
    """Whether the name describes a single layer, of the suite or not."""
    return name.startswith(("gemm-", "conv-", "depthwise-"))


def prepare(name: str, data: Path | None, folder: Path) -> Workload:
    """Write the model and its samples into `folder`.

    Raises:
        Exception: Whatever the file or a library objects to; the model is then left out.
    """
    is_file = data is not None and name not in NETWORKS and not is_layer(name)
    model = onnx.load(data / f"{name}.onnx") if data and is_file else _generated(name)
    _bind(model, SHAPES.get(name, {}))
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    rows = data / f"{name}.calib.npz" if data else None
    samples = _samples(model, rows if rows and rows.is_file() else None)
    with path.with_suffix(".npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **samples)
    ops = {node.op_type for node in model.graph.node}
    is_transformer = name.startswith(_TRANSFORMERS) or ops >= _ATTENTION_OPS
    return Workload(name, path, _operations(path), is_transformer)


def _generated(name: str) -> onnx.ModelProto:
    if name == "resnet18":
        return resnet18()
    model = network(NETWORKS.get(name, name))
    draw_weights(model)
    return model


def _bind(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Fix free dimensions of the inputs: as `shapes` says, else 1; the others follow."""
    for value in _inputs(model):
        dims = value.type.tensor_type.shape.dim
        for index, dim in enumerate(dims):
            if not dim.dim_value:
                dim.dim_value = shapes[value.name][index] if value.name in shapes else 1
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_value" if dim.dim_value else "dim_param")
    del model.graph.value_info[:]


def _inputs(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return (value for value in model.graph.input if value.name not in constants)


def _samples(model: onnx.ModelProto, rows: Path | None) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    given = dict(np.load(rows)) if rows else {}
    found = {}
    for value in _inputs(model):
        shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        taken = given.get(value.name)
        if taken is not None and len(taken) >= SAMPLES * shape[0]:
            taken = taken[: SAMPLES * shape[0]].reshape(SAMPLES, *shape).astype(dtype)
        else:
            taken = _draw(rng, (SAMPLES, *shape), dtype)
        found[value.name] = taken
    return found


def _draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    draw: Callable[[], Array] = (
        (lambda: rng.integers(0, 100, shape))
        if dtype.kind in "iu"
        else (lambda: rng.standard_normal(shape))
    )
    return draw().astype(dtype)


def _operations(path: Path) -> int:
    from gcompile import ir

    model = ir.load(path)
    works = (ir.work_of(ir.Region(str(node.name), (node,))) for node in model.graph)
    depthwise = (node for node in model.graph if node.op_type == "Conv")
    products = sum(work.product_ops for work in works)
    return products + sum(
        2 * contraction.macs
        for node in depthwise
        if (contraction := ir.contraction_of(node)) is not None and contraction.is_depthwise
    )
