"""What was asked for, read and checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gcompile import ir
from gcompile.backends.code import check_target
from gcompile.backends.object_store import ObjectStore
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.backends.weight_limits import WeightLimits
from gcompile.compiler.execution import Executor
from gcompile.compiler.gradients import row_gradients
from gcompile.compiler.pricing import energy_for
from gcompile.compiler.workers import Workers, parse_workers
from gcompile.energy.carbon import Accounting, Intensity, as_accounting, cpu_seconds
from gcompile.errors import UsageError, VerificationError
from gcompile.passes import Arrays, PassContext
from gcompile.passes.precision import Histogram, NumberFormat, Preset, QuantizeStatic
from gcompile.passes.registry import load_plugin
from gcompile.report import Budget, parse_drop, parse_duration
from gcompile.search import EVALUATIONS, Choice, Dataset, Metric, load_metric, read_dataset
from gcompile.targets import Target, load_build_target

Progress = Callable[[str, float], None]
"""Told what is being done, and which fraction of the whole work lies behind."""

PRECISIONS = (ir.Precision.FP32, ir.Precision.BF16, ir.Precision.INT8)
"""What a search may choose."""

SEARCHED = (ir.Precision.FP32, ir.Precision.FP16, ir.Precision.BF16, ir.Precision.INT8)
"""The same with fp16, where that costs no more than bf16: it is eight times as fine."""

ASKED = (*PRECISIONS, ir.Precision.FP16)
"""What all regions may be asked to compute in."""

_FORMATS = frozenset({*ir.Precision, *NumberFormat, "tf32", "int4"})
"""Names of formats, whether or not anything here computes in them."""


Source = ir.Model | str | Path | ir.TorchModule
"""A model: an ONNX file, a graph, a PyTorch module or an exported program."""


@dataclass(frozen=True)
class Recipe:
    """What was decided about a model, to be done again with the same model at another size.

    Attributes:
        choice: The precision of each region that does not keep its own.
        options: How regions become integers.
        histograms: The ranges they were quantized by; None where nothing was.
    """

    choice: Choice = field(default_factory=dict)
    options: QuantizeStatic = field(default_factory=QuantizeStatic)
    histograms: dict[str, Histogram] | None = None


@dataclass(frozen=True)
class Job:
    """One compilation, ready to start.

    Attributes:
        model: A ready model that belongs to this job alone.
        budget: None when energy is not limited.
        max_drop: Largest loss of the metric that is accepted.
        precision: The one precision asked for, wherever it is possible; None means a search.
        passes: Replaces the exact pipeline, as text; None keeps it.
        notes: Decisions taken on the user's behalf, as sentences for the report.
        carbon: How emissions are counted; None leaves them out.
        started_cpu_s: CPU seconds of the process when the work began.
        store: Where compiled kernels are kept between builds; None keeps none.
        searches: The folder where measurements of searches are kept; None keeps none.
        builds: The folder where whole artefacts are kept; None keeps none.
        evaluations: How often a search may measure accuracy.
        search_s: Seconds that a search may measure; None sets no limit.
        quantization: How integers are arrived at.
        executor: Runs the code to measure it.
        prune: Whether a search may prune.
        tokens: Tokens of one inference; None counts those of `input_ids`.
        limits: Which weights are written to a file of their own.
        workers: Who measures sensitivities; None measures them here.
        recipe: What to do, where that was decided already; None leaves it to be decided.
    """

    model: ir.Model
    model_name: str
    context: PassContext
    budget: Budget | None
    max_drop: float
    metric_name: str
    metric: Metric
    calibration: Dataset | None
    evaluation: Dataset | None
    precision: ir.Precision | None
    passes: str | None
    progress: Progress
    notes: tuple[str, ...]
    carbon: Accounting | None = None
    started_cpu_s: float = 0.0
    store: ObjectStore | None = None
    searches: Path | None = None
    builds: Path | None = None
    evaluations: int = EVALUATIONS
    search_s: float | None = None
    quantization: Preset = Preset.BALANCED
    executor: Executor = field(default_factory=Executor)
    prune: bool = False
    tokens: int | None = None
    limits: WeightLimits = field(default_factory=WeightLimits)
    workers: Workers | None = None
    recipe: Recipe | None = None

    @property
    def may_use_integers(self) -> bool:
        """Say whether int8 is asked for, or a search may turn to it."""
        return self.precision is ir.Precision.INT8 or (
            self.precision is None and self.budget is not None
        )

    @property
    def candidates(self) -> tuple[ir.Precision, ...]:
        """The precisions a search may use: integers and fp16, whose ranges end, need rows."""
        if not self.calibration:
            return PRECISIONS[:2]
        target = self.context.target
        return tuple(p for p in SEARCHED if p is not ir.Precision.FP16 or _beats_bf16(target))


def prepare(
    model: ir.Model | str | Path,
    target: Target | str,
    *,
    budget: Budget | str | None = None,
    max_drop: float | str = 0.01,
    metric: str | Metric = "top1",
    calib: Arrays | str | Path | None = None,
    evaluate: Arrays | str | Path | None = None,
    precision: ir.Precision | str | None = None,
    passes: str | None = None,
    shapes: ir.Shapes | None = None,
    sizes: Mapping[str, int] | None = None,
    threads: int = 1,
    seed: int = 0,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
    carbon: Accounting | Intensity | str | float | None = None,
    cache: bool | str | Path = False,
    emulator: str | None = None,
    require_verified: bool = False,
    evaluations: int = EVALUATIONS,
    search_time: float | str | None = None,
    quantization: Preset | str = Preset.BALANCED,
    prune: bool = False,
    tokens: int | None = None,
    limits: WeightLimits | None = None,
    workers: str | int | None = None,
) -> Job:
    """Read everything a compilation needs.

    Raises:
        UsageError: An option or a data file cannot be used.
        VerificationError: `require_verified` is set, and nothing here can run the code.
        GcompileError: The model or the target cannot be compiled.
    """
    started_cpu_s = cpu_seconds()
    counted = as_accounting(carbon)
    limit = (
        Budget.parse(budget).on(counted.intensity if counted else None)
        if budget is not None
        else None
    )
    if evaluations < 1:
        raise UsageError(f"{evaluations} evaluations are too few: a search measures at least one.")
    search_s = parse_duration(search_time)
    for plugin in plugins:
        load_plugin(plugin)
    device, note = load_build_target(target) if isinstance(target, str) else (target, "")
    check_target(device)
    executor = Executor.of(device, emulator)
    if require_verified and executor.code_ran == "no":
        raise VerificationError(
            f"The code for {device.name!r} could not be verified: {executor.why_not_here}. Name "
            "an emulator with --emulator, build on such a machine, or drop --require-verified."
        )
    ready, name = load_model(model, shapes, sizes=sizes)
    calibration = read_dataset(calib, ready, "calibration") if calib is not None else None
    if prune and calibration is None:
        raise UsageError("Pruning needs calibration rows: give them with --calib FILE.npz.")
    wanted = None if precision is None else parse_precision(precision, device)
    if wanted is ir.Precision.INT8 and calibration is None:
        raise UsageError("Precision int8 needs calibration rows: give them with --calib FILE.npz.")
    rows = None
    if evaluate is not None:
        rows = read_dataset(evaluate, ready, "evaluation", needs_labels=True)
    return Job(
        model=ready,
        model_name=name,
        context=PassContext(
            target=device,
            energy=energy_for(device),
            seed=seed,
            threads=threads,
            calibration=calibration.inputs if calibration else None,
            labels=calibration.labels if calibration else None,
            run=OnnxRuntime(),
            gradients=row_gradients,
        ),
        budget=limit,
        max_drop=parse_drop(max_drop),
        metric_name=metric if isinstance(metric, str) else getattr(metric, "__name__", "metric"),
        metric=load_metric(metric) if isinstance(metric, str) else metric,
        calibration=calibration,
        evaluation=rows,
        precision=wanted,
        passes=passes,
        progress=progress or (lambda what, fraction: None),
        notes=(*filter(None, [note]), *_notes(ready)),
        carbon=counted,
        started_cpu_s=started_cpu_s,
        store=_store(cache),
        searches=_kept_below(cache, "searches"),
        builds=_kept_below(cache, "builds"),
        evaluations=evaluations,
        search_s=search_s,
        quantization=parse_preset(quantization),
        executor=executor,
        prune=prune,
        tokens=tokens,
        limits=limits or WeightLimits(),
        workers=parse_workers(workers),
    )


def read_graph(
    model: Source, example_inputs: ir.Inputs | None, dynamic_shapes: object
) -> ir.Model | Path:
    """Make a graph of a PyTorch module or of a `.pt2` file; others are as they are.

    Raises:
        UsageError: It is no model, or example inputs are given for one that needs none.
        ExportError: The module cannot become a graph.
    """
    if not isinstance(model, (ir.Model, str, Path)):
        return ir.from_torch(model, example_inputs, dynamic_shapes)
    if example_inputs is not None or dynamic_shapes is not None:
        raise UsageError(
            "Example inputs and dynamic shapes are for PyTorch modules. Give the shapes of an "
            "ONNX model's inputs with shapes={'input': (1, 3, 224, 224)}."
        )
    if isinstance(model, ir.Model):
        return model
    return ir.load_pt2(Path(model)) if Path(model).suffix == ".pt2" else Path(model)


def load_model(
    model: ir.Model | str | Path,
    shapes: ir.Shapes | None,
    batch: int = 1,
    sizes: Mapping[str, int] | None = None,
) -> tuple[ir.Model, str]:
    """A ready model that may be changed, and its name; the caller's model is left alone."""
    graph = read_graph(model, None, None)
    if isinstance(graph, ir.Model):
        return ir.prepare(graph.clone(), shapes, batch, sizes), str(graph.graph.name or "model")
    return ir.load(graph, shapes, batch, sizes), graph.stem


def check_format(name: str) -> None:
    """Refuse what is not the name of a number format, on whatever target."""
    if name not in _FORMATS:
        known = ", ".join(ASKED)
        raise UsageError(f"Unknown precision {name!r:.40}. Known precisions: {known}.")


def parse_precision(name: ir.Precision | str, target: Target) -> ir.Precision:
    """Read the name of a precision that there is a code generator for.

    Raises:
        UsageError: Listing those of the target, where it is a format that it lacks.
    """
    check_format(name)
    found = available(name, target)
    if found not in ASKED:
        raise UsageError(
            f"Target {target.name!r} computes in {found}, but gcompile has code for "
            f"{', '.join(p for p in ASKED if p in target.precisions)} alone there; "
            f"`gcompile estimate --precision {found}` says what it would cost."
        )
    return found


def available(precision: ir.Precision | str, target: Target) -> ir.Precision:
    """The precision, which the target must have a unit for.

    Raises:
        UsageError: Listing those it has.
    """
    if precision not in target.precisions:
        raise UsageError(
            f"Target {target.name!r} does not compute in {precision}. It computes in: "
            f"{', '.join(target.precisions)}."
        )
    return ir.Precision(precision)


def parse_preset(name: Preset | str) -> Preset:
    """Read a quantization preset by its name."""
    if name not in list(Preset):
        raise UsageError(f"Unknown quantization {name!r:.40}. Known are: {', '.join(Preset)}.")
    return Preset(name)


def _beats_bf16(target: Target) -> bool:
    """Say whether a CPU computes in fp16 at least as fast as in bf16. GPUs have both alike."""
    halves = ir.Precision.FP16, ir.Precision.BF16
    if target.kind != "cpu" or ir.Precision.FP16 not in target.precisions:
        return False
    fp16, bf16 = (target.unit_for(precision) for precision in halves)
    return fp16.peak_ops_per_s * fp16.efficiency >= bf16.peak_ops_per_s * bf16.efficiency


def _store(cache: bool | str | Path) -> ObjectStore | None:
    if isinstance(cache, bool):
        return ObjectStore.of_user() if cache else None
    return ObjectStore(Path(cache))


def _kept_below(cache: bool | str | Path, name: str) -> Path | None:
    """A folder in the cache's folder, or beside the user's kernels."""
    if not isinstance(cache, bool):
        return Path(cache) / name
    store = _store(cache)
    return store.folder.with_name(name) if store else None


def _notes(model: ir.Model) -> tuple[str, ...]:
    bound = (
        f"Free dimension {name} is bound to {size}; bind it otherwise with --shape."
        for name, size in ir.default_bindings(model).items()
    )
    return (*ir.notes_of(model), *bound)
