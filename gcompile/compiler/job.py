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
from gcompile.compiler.formats import candidates, parse_precision, parse_preset
from gcompile.compiler.gradients import row_gradients
from gcompile.compiler.pricing import energy_for
from gcompile.compiler.sources import load_model
from gcompile.compiler.workers import Workers, parse_workers
from gcompile.energy.carbon import Accounting, Intensity, as_accounting, cpu_seconds
from gcompile.errors import UsageError, VerificationError
from gcompile.passes import Arrays, PassContext
from gcompile.passes.precision import Histogram, Preset, QuantizeStatic
from gcompile.passes.registry import load_plugin
from gcompile.report import Budget, parse_drop, parse_duration
from gcompile.search import EVALUATIONS, Choice, Dataset, Metric, load_metric, read_dataset
from gcompile.targets import Target, load_build_target

Progress = Callable[[str, float], None]
"""Told what is being done, and which fraction of the whole work lies behind."""


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
        return candidates(self.context.target, has_rows=self.calibration is not None)


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
