"""The whole story of a compilation, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gcompile import ir
from gcompile.compiler.compiled import Compiled, temporary_folder
from gcompile.compiler.job import Progress, prepare
from gcompile.compiler.kept_builds import compile_or_restore
from gcompile.compiler.named_targets import named_targets
from gcompile.compiler.sources import Source, read_graph
from gcompile.energy.carbon import Accounting, Intensity
from gcompile.passes import Arrays
from gcompile.passes.precision import Preset
from gcompile.report import Budget, check_output
from gcompile.search import EVALUATIONS, Metric
from gcompile.targets import Target

if TYPE_CHECKING:
    from gcompile.compiler.dynamic import Dynamic

__all__ = ["Compiled", "compile"]


def compile(
    model: Source,
    target: Target | str | Sequence[Target | str] = "cpu",
    *,
    example_inputs: ir.Inputs | None = None,
    dynamic_shapes: object = None,
    dynamic: Dynamic | None = None,
    budget: Budget | str | None = None,
    max_drop: float | str = 0.01,
    metric: str | Metric = "top1",
    calib: Arrays | str | Path | None = None,
    evaluate: Arrays | str | Path | None = None,
    precision: ir.Precision | str | None = None,
    passes: str | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
    seed: int = 0,
    output: str | Path | None = None,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
    carbon: Accounting | Intensity | str | float | None = None,
    cache: bool | str | Path = True,
    emulator: str | None = None,
    require_verified: bool = False,
    evaluations: int = EVALUATIONS,
    search_time: float | str | None = None,
    quantization: Preset | str = Preset.BALANCED,
    prune: bool = False,
    workers: str | int | None = None,
) -> Compiled:
    """Optimise a model for a target under an energy budget, build it, verify it, and report.

    Args:
        model: An ONNX or `.pt2` file; or a graph, a PyTorch module or an exported program in
            memory, which is not changed.
        target: The name of a device, a TOML file that describes one, or a `Target`. Several, as a
            list or separated by commas, make one artefact with a variant for each: whatever loads
            it takes the best that its CPU can run.
        example_inputs: What the `forward` of a PyTorch module takes, in order or by name; only
            shapes and types count.
        dynamic_shapes: Free dimensions of a module's inputs, as `torch.export.export` takes them,
            or by name: `{"x": {0: "batch"}}`. `shapes` binds them, `dynamic` keeps them free.
        dynamic: Free dimensions that stay free, with their sizes, such as
            `{"batch": "1..64", "length": [16, 32]}`: the artefact has code for several sizes, and
            runs those between where the model allows it. A budget, calibration and evaluation rows
            are those of one sample at the largest of the other sizes.
        budget: `50mJ`, `0.2Wh/1000`, `5gCO2e/1000`, or `-40%` of the model compiled exactly.
        max_drop: Loss of the metric that is accepted where `evaluate` is given: 0.01 or `1%`.
        metric: `top1`, `module:function`, or a function of (outputs by name, labels).
        calib: Rows for every input: what ranges and sensitivities are measured on. Without them
            only float precisions are considered.
        evaluate: Rows with `labels`: what accuracy is measured on.
        precision: One precision wherever it is possible, in place of a search.
        passes: A pipeline that replaces the exact passes, such as `fold-batch-norm`.
        shapes: A static shape for each input with free dimensions. A free leading dimension left
            out is the batch and is bound to one sample.
        threads: Most threads a kernel is divided among.
        seed: Of every random choice.
        output: The folder to write, whole or not at all; by default a temporary one.
        plugins: Modules that bring passes.
        progress: Told what is being done and the fraction done.
        carbon: The grid to count emissions on: a country such as `DE`, gCO2e per kWh, or an
            `Accounting`. A budget such as `5gCO2e/1000` needs it.
        cache: Whether compiled kernels and whole artefacts are kept for later builds, or the
            folder to keep them in; by default below $XDG_CACHE_HOME or ~/.cache.
        emulator: A command that starts Python on an emulated machine, for code that this machine
            cannot run: `qemu-aarch64 -L ROOT ROOT/usr/bin/python3`. Without it, the artefact of
            such a target is written all the same, and the report says that its code was not run.
        require_verified: Refuse to build code that cannot be run to verify it.
        evaluations: How often a search may build code and measure its accuracy.
        search_time: How long a search may go on measuring: seconds, or `90s`, `10m`, `2h`. One
            that is interrupted goes on where it was when it is started again, unless `cache` is
            False.
        quantization: How integers are arrived at: `fast` once, `balanced` the best of several
            calibrations, `best` with channels scaled and weights rounded by the Gram matrix.
        prune: Let the search prune channels, kernels and blocks as well, without training.
        workers: Who measures sensitivities: a number of processes, `ray`, or the address of a Ray
            cluster; by default this process.

    Raises:
        UsageError: An option, a shape or a data file cannot be used.
        ExportError: A PyTorch module cannot become a graph; the message says where and why.
        UnsupportedOperatorsError: Nothing can compile some operators; all are listed.
        VerificationError: The compiled code disagrees with the reference, or cannot be run and
            `require_verified` asks for it.
        GcompileError: Anything else that went wrong, with the remedy.
    """
    folder = Path(output) if output else temporary_folder()
    check_output(folder)
    targets = list(named_targets(target, progress))
    graph = read_graph(model, example_inputs, dynamic_shapes)
    if dynamic:
        from gcompile.compiler.dynamic import compile_dynamic

        name = graph.stem if isinstance(graph, Path) else str(graph.graph.name or "model")
        unbound = ir.read_file(graph) if isinstance(graph, Path) else graph
        return compile_dynamic(
            unbound, name, target, dynamic, shapes=shapes, output=output, budget=budget,
            max_drop=max_drop, metric=metric, calib=calib, evaluate=evaluate, precision=precision,
            passes=passes, threads=threads, seed=seed, plugins=plugins, progress=progress,
            carbon=carbon, cache=cache, emulator=emulator, require_verified=require_verified,
            evaluations=evaluations, search_time=search_time, quantization=quantization,
            prune=prune, workers=workers,
        )  # fmt: skip
    jobs = {
        name: prepare(
            graph, device, budget=budget, max_drop=max_drop, metric=metric, calib=calib,
            evaluate=evaluate, precision=precision, passes=passes, shapes=shapes, threads=threads,
            seed=seed, plugins=plugins, progress=stages, carbon=carbon, cache=cache,
            emulator=emulator, require_verified=require_verified, evaluations=evaluations,
            search_time=search_time, quantization=quantization, prune=prune, workers=workers,
        )
        for name, device, stages in targets
    }  # fmt: skip
    return compile_or_restore(jobs, folder, plugins)
