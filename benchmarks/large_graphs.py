"""How compile time grows with the number of nodes: from a file to an estimate, and to an artefact.

    python -m benchmarks.large_graphs --plot large_graphs.png

Every measurement is a process of its own, without a cache of kernels. `estimate` is
`gcompile.estimate` of the file; `build` is `gcompile.compile` of it, with the verification of the
code. The graphs are residual blocks with identities, transposes and dead branches in between: in
the one called `repeating` all blocks are alike, in the one called `varied` they have 64 widths, so
that there are as many different kernels. The slope is that of a line fitted to the logarithms of
seconds and nodes over the three largest sizes, where what every process does once counts least:
1 is linear, and n log n has 1.1 there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.large_models import many_nodes
from benchmarks.timing import machine

ESTIMATED = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
BUILT = (1_000, 2_000, 5_000, 10_000, 20_000)
WIDTHS = 64
SIZE = 8
"""Height and width of the images of the varied graph."""

_MEASURE = """
import json, resource, sys, time
import gcompile
wall, cpu = time.perf_counter(), time.process_time()
call = {"build": lambda: gcompile.compile(sys.argv[2], "cpu", cache=False, output=sys.argv[3]),
        "estimate": lambda: gcompile.estimate(sys.argv[2], "cpu")}[sys.argv[1]]
call()
print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu,
                  "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


@dataclass(frozen=True)
class Measured:
    """One process: what it did, with how many nodes, and what it took."""

    graph: str
    action: str
    nodes: int
    wall_s: float
    cpu_s: float
    peak_bytes: int


def main() -> None:
    """Print a table and the slopes; draw them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=max(ESTIMATED), help="leave out the larger")
    parser.add_argument("--plot", type=Path, help="a PNG; needs matplotlib")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    print(machine())
    print(f"{'graph':10} {'action':9} {'nodes':>7} {'wall s':>8} {'CPU s':>8} {'peak GB':>8}")
    found = []
    for graph, write in (("repeating", many_nodes), ("varied", varied_nodes)):
        for action, sizes in (("estimate", ESTIMATED), ("build", BUILT)):
            for nodes in (size for size in sizes if size <= options.largest):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "graph.onnx"
                    onnx.save(write(nodes), path)
                    one = measure(graph, action, nodes, path)
                found.append(one)
                print(f"{graph:10} {action:9} {nodes:7,} {one.wall_s:8.2f} {one.cpu_s:8.2f} "
                      f"{one.peak_bytes / 1e9:8.2f}", flush=True)  # fmt: skip
    for (graph, action), series in series_of(found).items():
        if len(series) > 1:
            print(f"{graph} {action}: CPU time grows as nodes to the power {slope(series):.2f}")
    if options.json:
        options.json.write_text(json.dumps([vars(one) for one in found], indent=2) + "\n")
    if options.plot:
        draw(found, options.plot)


def measure(graph: str, action: str, nodes: int, path: Path) -> Measured:
    """Run one action on one file in a process of its own."""
    command = [sys.executable, "-c", _MEASURE, action, str(path), str(path.with_suffix(".out"))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Measured(graph, action, nodes, **json.loads(output))


def series_of(found: list[Measured]) -> dict[tuple[str, str], list[Measured]]:
    """The measurements of each graph and action, by rising numbers of nodes."""
    series: dict[tuple[str, str], list[Measured]] = {}
    for one in found:
        series.setdefault((one.graph, one.action), []).append(one)
    return series


def slope(series: list[Measured]) -> float:
    """The exponent of the power law fitted to CPU seconds of the three largest sizes."""
    nodes = np.log([one.nodes for one in series[-3:]])
    seconds = np.log([one.cpu_s for one in series[-3:]])
    return float(np.polyfit(nodes, seconds, 1)[0])


def draw(found: list[Measured], path: Path) -> None:
    """Draw CPU seconds over nodes, both on logarithmic scales, beside n log n."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for (graph, action), series in series_of(found).items():
        style = "o-" if graph == "repeating" else "s--"
        label = f"{action}, {graph}: slope {slope(series):.2f}" if len(series) > 1 else action
        axes.plot([s.nodes for s in series], [s.cpu_s for s in series], style, label=label)
    nodes = np.array(sorted({one.nodes for one in found}), float)
    start = min(one.cpu_s for one in found)
    growth = nodes * np.log(nodes)
    axes.plot(nodes, start * growth / growth[0], ":", color="0.5", label="n log n")
    axes.set(xscale="log", yscale="log", xlabel="nodes", ylabel="seconds of CPU time")
    axes.set_title(machine(), fontsize=9)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def varied_nodes(count: int) -> onnx.ModelProto:
    """Residual blocks of `WIDTHS` widths in turn: as many kernels of each kind."""
    rng = np.random.default_rng(0)
    widths = [8 + 4 * index for index in range(WIDTHS)]
    weights = {}
    nodes: list[onnx.NodeProto] = []

    def add(op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    value, width, block = "x", widths[0], 0
    while len(nodes) < count:
        block += 1
        shape = (widths[block % WIDTHS], width, 1, 1)
        weight = f"w{shape[0]}_{shape[1]}"
        if weight not in weights:
            data = (rng.standard_normal(shape) / width**0.5).astype(np.float32)
            weights[weight] = numpy_helper.from_array(data, weight)
        width = shape[0]
        skip = add("Conv", value, weight)
        value = add("Relu", add("Identity", skip))
        value = add("Transpose", value, perm=[0, 2, 3, 1])
        value = add("Transpose", value, perm=[0, 3, 1, 2])
        add("Neg", value)
        value = add("Add", value, skip)
        value = add("Sigmoid", value)
    graph = helper.make_graph(
        nodes,
        "varied_nodes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, widths[0], SIZE, SIZE))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, width, SIZE, SIZE))],
        list(weights.values()),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


if __name__ == "__main__":
    main()
