"""What is built for GPUs, without one: seconds, launches, tensor cores, registers, bytes.

    python -m benchmarks.cuda_static [--models resnet50] [--targets nvidia-a100] [--data DIR]

Whole networks with random weights, batch 1, and the ONNX files of a folder. `build` is wall time
from the file to the machine code of all kernels, on the machine that is named; nothing is run.
`tensor` counts the launches whose kernel contains a tensor-core instruction, read from its PTX;
`products` those regions with a convolution or matrix product that have no such kernel though they
are not in fp32 and not depthwise, with the reason of each below. `spills` counts kernels that keep
registers in memory.

`as emitted` is the energy and time of what was emitted, launch by launch, and after each its ratio
to what the estimate of the same model says, which prices regions before there is a kernel.

`--two-of-four` sets two of every four weights to zero, those of least magnitude; `sparse` counts
the launches whose products skip them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.networks import draw_weights, network
from benchmarks.timing import machine
from gcompile import ir
from gcompile.backends.cuda.build import CudaCode, generate
from gcompile.backends.cuda.launches import Launch
from gcompile.backends.cuda.ledger import emitted
from gcompile.compiler.choose import choose
from gcompile.compiler.job import Job, prepare
from gcompile.compiler.native import Measurer
from gcompile.compiler.pricing import energy_for
from gcompile.compiler.sources import load_model
from gcompile.compiler.stages import Stage, apply_exact_passes
from gcompile.energy import estimate
from gcompile.errors import GcompileError
from gcompile.passes.prune.sparsify_weights import SparsifyWeights
from gcompile.testing import example_context

MODELS = ("resnet50", "mobilenet-v2-1.0-224", "squeezenet", "bert-base-128", "vit-tiny")
TARGETS = ("nvidia-a100-sxm-80", "nvidia-l4", "nvidia-h100-sxm")
PRECISIONS = ("bf16", "int8")
ROWS = 2
_INSTRUCTIONS = (b"mma.sync", b"mma.sp", b"wgmma.mma_async")


@dataclass(frozen=True)
class Static:
    """What is known of code that was not run.

    Attributes:
        build_s: Wall time.
        tensor_launches: Launches whose kernel contains a tensor-core instruction.
        sparse_launches: Those of them that multiply two of every four weights.
        without: Why regions with products in narrow types have no such kernel, by region.
        spilling: Names of kernels that keep registers in memory.
        cubin_bytes: Of all kernels.
        energy_j: Of what was emitted.
        time_s: The same.
        energy_ratio: To the estimate of the model; `time_ratio` likewise.
    """

    build_s: float
    launches: int
    tensor_launches: int
    sparse_launches: int
    without: dict[str, str]
    spilling: tuple[str, ...]
    cubin_bytes: int
    energy_j: float
    time_s: float
    energy_ratio: float
    time_ratio: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--data", type=Path, help="a folder of ONNX files of your own")
    parser.add_argument("--two-of-four", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(machine())
    print(f"{'model':28}{'precision':>10}{'target':>20}{'build s':>9}{'launches':>10}"
          f"{'tensor':>8}{'sparse':>8}{'products':>10}{'spills':>8}{'cubin kB':>10}"
          f"{'as emitted':>36}")  # fmt: skip
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        two_of_four = arguments.two_of_four
        for path in _paths(
            arguments.models, arguments.data, Path(folder), two_of_four=two_of_four
        ):
            for precision in arguments.precisions:
                for target in arguments.targets:
                    key = f"{path.stem} {precision} {target}"
                    found = _try(path, target, precision)
                    results[key] = asdict(found) if isinstance(found, Static) else found
                    print(_line(path.stem, precision, target, found), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))


def code_of(path: Path, target: str, precision: str) -> CudaCode:
    """Optimise a model and generate its code, which is not run."""
    job, stage = optimized(path, target, precision)
    return generate(stage.model, job.context.target, job.context.threads)


def optimized(path: Path, target: str, precision: str) -> tuple[Job, Stage]:
    """Do everything that comes before code generation.

    Args:
        path: An ONNX file; free dimensions are taken as 1.
        target: A GPU.
        precision: What its products compute in; int8 is calibrated on random rows.
    """
    rows = _random_rows(path) if precision == "int8" else None
    job = prepare(
        path, target, budget=None, max_drop=0.01, metric="top1", calib=rows, evaluate=None,
        precision=precision, passes=None, shapes=None, threads=1, seed=0, plugins=(),
        progress=None, quantization="fast",
    )  # fmt: skip
    measurer = Measurer(job, reference=job.model.clone())
    exact = apply_exact_passes(job)
    return job, choose(job, exact, exact, measurer, None).stage


def static_figures(code: CudaCode, build_s: float = 0.0) -> Static:
    """Read what is known of code that was not run."""
    ptx = {
        kernel.name: machine_code.ptx
        for kernel, machine_code in zip(code.program.kernels, code.machine_code, strict=True)
    }
    launched = [a.kernel.name for a in code.program.actions if isinstance(a, Launch)]
    multiplying = {name for name, text in ptx.items() if any(i in text for i in _INSTRUCTIONS)}
    spilling = (
        kernel.name
        for kernel, machine_code in zip(code.program.kernels, code.machine_code, strict=True)
        if machine_code.spilled_bytes
    )
    found = emitted(code.program, code.target)
    priced = estimate(code.model, code.target, energy_for(code.target), code.threads).total
    return Static(
        build_s,
        len(code.program.actions),
        sum(name in multiplying for name in launched),
        found.sparse_launches,
        dict(code.fallbacks),
        tuple(spilling),
        sum(len(machine_code.cubin) for machine_code in code.machine_code),
        found.cost.energy_j,
        found.cost.time_s,
        found.cost.energy_j / priced.energy_j,
        found.cost.time_s / priced.time_s,
    )


def _paths(
    models: list[str], data: Path | None, folder: Path, *, two_of_four: bool = False
) -> Iterator[Path]:
    for name in models:
        model = network(name)
        draw_weights(model)
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        if two_of_four:
            pruned, _ = load_model(path, None)
            SparsifyWeights().run(pruned, example_context())
            onnx.save(ir.to_proto(pruned), path)
        yield path
    if data is not None:
        found = sorted(data.glob("*.onnx"))
        if not found:
            print(f"{data} holds no ONNX file")
        yield from found


def _try(path: Path, target: str, precision: str) -> Static | str:
    start = time.perf_counter()
    try:
        code = code_of(path, target, precision)
    except GcompileError as error:
        return str(error)
    return static_figures(code, time.perf_counter() - start)


def _line(model: str, precision: str, target: str, found: Static | str) -> str:
    head = f"{model:28}{precision:>10}{target:>20}"
    if isinstance(found, str):
        return f"{head}  {found}"
    figures = (
        f"{found.build_s:9.1f}{found.launches:10}{found.tensor_launches:8}"
        f"{found.sparse_launches:8}"
        f"{len(found.without):10}{len(found.spilling):8}{found.cubin_bytes / 1e3:10.0f}"
        f"{found.energy_j * 1e3:9.3f} mJ{found.energy_ratio:6.2f}"
        f"{found.time_s * 1e3:9.4f} ms{found.time_ratio:6.2f}"
    )
    notes = [f"\n    {region}: {reason}" for region, reason in found.without.items()]
    notes += [f"\n    spills: {name}" for name in found.spilling]
    return head + figures + "".join(notes)


def _random_rows(path: Path) -> dict[str, ir.Array]:
    """Normal floats, and small integers, which are indices mostly."""
    model, rng = ir.load(path), np.random.default_rng(0)
    rows: dict[str, ir.Array] = {}
    for value in model.graph.inputs:
        shape = ir.static_shape(value)
        size = (ROWS * shape[0], *shape[1:]) if shape else (ROWS,)
        dtype = (value.dtype or ir.DataType.FLOAT).numpy()
        is_float = np.issubdtype(dtype, np.floating)
        numbers = rng.standard_normal(size) if is_float else rng.integers(0, 64, size)
        rows[str(value.name)] = numbers.astype(dtype)
    return rows


if __name__ == "__main__":
    main()
