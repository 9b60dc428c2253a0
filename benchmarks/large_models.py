"""Load, canonicalize, fuse and estimate on large graphs and large files.

    python -m benchmarks.large_models

Two questions, each answered in a process of its own: seconds for a graph of 10,000 nodes (`price`
is one estimate of all of them, `estimate` one of what the passes leave), and the peak resident
memory of `gcompile estimate` on a model of 2.35 GB with external data.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.timing import machine

NODES = 10_000
CHANNELS = 16
EXTERNAL_BYTES = 2_350_000_000
LAYERS = 24

_MEASURE = """
import json, resource, sys, time
start = time.process_time()
import gcompile
from gcompile import ir
from gcompile.energy import Roofline, estimate
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.targets import load_target
times = {"import": time.process_time() - start}

def stage(name, call):
    start = time.process_time()
    result = call()
    times[name] = time.process_time() - start
    return result

target = load_target("intel-xeon-8490h")
ctx = PassContext(target=target, energy=Roofline())
model = stage("load", lambda: ir.load(sys.argv[1]))
nodes = sum(1 for _ in ir.all_nodes(model))
stage("price", lambda: estimate(model, target, Roofline()))
records = [stage("canonicalize", lambda: canonicalize_pipeline().apply(model, ctx)),
           stage("fuse", lambda: fuse_pipeline().apply(model, ctx))]
entries = {r.name: [r.seconds, r.pricing_s] for x in records for r in x.leaves if r.changed}
stage("estimate", lambda: estimate(model, target, Roofline()))
after = sum(1 for _ in ir.all_nodes(model))
print(json.dumps({"nodes": nodes, "nodes_after": after, "seconds": times,
                  "entries": entries}))
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(many_nodes(NODES), path)
        report_stages(path)
        large = Path(folder) / "large.onnx"
        write_external(large, EXTERNAL_BYTES, LAYERS)
        report_memory(large)


def report_stages(path: Path) -> None:
    """Print the seconds of each stage on one graph."""
    command = [sys.executable, "-c", _MEASURE, str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output)
    seconds = found["seconds"]
    for name, value in seconds.items():
        print(f"  {name:14}{value:7.2f} s")
    total = sum(value for name, value in seconds.items() if name != "import")
    print(f"  {'total':14}{total:7.2f} s for {found['nodes']:,} nodes "
          f"({found['nodes_after']:,} after the passes), without import (CPU time)")  # fmt: skip
    for name, (run_s, pricing_s) in found["entries"].items():
        print(f"  {name:24} {run_s:6.3f} s, its ledger entry {pricing_s:6.3f} s")


def report_memory(path: Path) -> None:
    """Print the peak resident memory of `gcompile estimate` on one model."""
    command = [sys.executable, "-m", "gcompile", "estimate", str(path),
               "--target", "intel-xeon-8490h", "--format", "json"]  # fmt: skip
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    size = path.with_suffix(".onnx.data").stat().st_size
    energy = json.loads(output)["energy"]["energy_j"]
    print(f"  estimate of a {size / 1e9:.2f} GB model: {peak / 1e9:.2f} GB resident at most, "
          f"{energy:.3g} J per inference")  # fmt: skip


def many_nodes(count: int) -> onnx.ModelProto:
    """A chain of residual blocks with identities, transposes and dead branches in between."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(
            rng.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32) / 12, f"w{i}"
        )
        for i in range(8)
    ]
    nodes: list[onnx.NodeProto] = []

    def add(op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    value = "x"
    while len(nodes) < count:
        skip = value
        value = add("Conv", value, f"w{len(nodes) % 8}", pads=[1, 1, 1, 1])
        value = add("Relu", add("Identity", value))
        value = add("Transpose", value, perm=[0, 2, 3, 1])
        value = add("Transpose", value, perm=[0, 3, 1, 2])
        add("Neg", value)
        value = add("Add", value, skip)
        value = add("Sigmoid", value)
    shape = (1, CHANNELS, 16, 16)
    graph = helper.make_graph(
        nodes,
        "many_nodes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def write_external(path: Path, size: int, layers: int) -> None:
    """A multilayer perceptron whose weights lie in a side file of about `size` bytes."""
    width = int((size / layers / 4) ** 0.5) // 64 * 64
    data = path.with_suffix(".onnx.data")
    nbytes = width * width * 4
    with data.open("wb") as file:
        file.truncate(nbytes * layers)
    weights = []
    for index in range(layers):
        tensor = TensorProto(
            name=f"w{index}",
            data_type=TensorProto.FLOAT,
            dims=(width, width),
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (
            ("location", data.name),
            ("offset", str(index * nbytes)),
            ("length", str(nbytes)),
        ):
            tensor.external_data.add(key=key, value=value)
        weights.append(tensor)
    nodes = []
    for index in range(layers):
        nodes.append(helper.make_node("MatMul", [f"h{index}", f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Relu", [f"m{index}"], [f"h{index + 1}"]))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("h0", TensorProto.FLOAT, ("N", width))],
        [helper.make_tensor_value_info(f"h{layers}", TensorProto.FLOAT, ("N", width))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
