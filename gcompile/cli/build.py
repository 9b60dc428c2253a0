"""`gcompile build`: compile a model under an energy budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.carbon import (
    CarbonEmbodiedOption,
    CarbonInferencesOption,
    CarbonIntensityOption,
    CarbonKeyOption,
    CarbonProviderOption,
    CarbonZoneOption,
    read_accounting,
)
from gcompile.cli.compilation import compiled
from gcompile.cli.entries import EntriesOption, parse_entries
from gcompile.cli.options import (
    CalibOption,
    DynamicOption,
    EvalOption,
    Format,
    FormatOption,
    FreezeOption,
    InputShapeOption,
    MetricOption,
    NoCacheOption,
    PluginOption,
    PrecisionOption,
    PruneOption,
    QuantizationName,
    QuantizationOption,
    SearchTimeOption,
    ShapeOption,
    ThreadsOption,
    WorkersOption,
    parse_dynamic,
    parse_shapes,
    parse_values,
)
from gcompile.cli.output import is_wide, say, show, show_json
from gcompile.cli.progress import progress
from gcompile.errors import CompileError, UsageError

if TYPE_CHECKING:
    from gcompile.report import BuildConfig, Report

NOT_MET = 1
INTERRUPTED = 130


def build(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="ONNX or .pt2 file, or MODULE:FACTORY.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="Device to compile for, or several for one artefact: a,b. [default: cpu]",
        ),
    ] = None,
    entry: EntriesOption = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Energy allowed: 50mJ, 0.2Wh/1000, 5gCO2e/1000 or -40%."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option("--max-drop", help="Accuracy that may be lost: 1% or 0.01. [default: 1%]"),
    ] = None,
    metric: MetricOption = None,
    calib: CalibOption = None,
    eval_: EvalOption = None,
    precision: PrecisionOption = None,
    quantization: QuantizationOption = None,
    shape: ShapeOption = None,
    freeze: FreezeOption = None,
    dynamic: DynamicOption = None,
    input_shape: InputShapeOption = None,
    threads: ThreadsOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of every random choice.")] = None,
    passes: Annotated[
        str | None,
        typer.Option("--passes", help="Pipeline, such as `fold-batch-norm,fuse-regions`."),
    ] = None,
    plugin: PluginOption = None,
    carbon_zone: CarbonZoneOption = None,
    carbon_intensity: CarbonIntensityOption = None,
    carbon_provider: CarbonProviderOption = None,
    carbon_key: CarbonKeyOption = None,
    carbon_inferences: CarbonInferencesOption = None,
    carbon_embodied: CarbonEmbodiedOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write. [default: MODEL-TARGET]"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with any of these options.")
    ] = None,
    format_: FormatOption = Format.TEXT,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to fall back to generic code anywhere.")
    ] = False,
    require_verified: Annotated[
        bool,
        typer.Option("--require-verified", help="Refuse code that nothing here can run."),
    ] = False,
    emulator: Annotated[
        str | None,
        typer.Option(
            "--emulator",
            metavar="COMMAND",
            help="Starts Python on an emulated machine, to verify code that this one cannot run.",
        ),
    ] = None,
    max_evals: Annotated[
        int | None,
        typer.Option(
            "--max-evals", help="Most measurements of accuracy in a search. [default: 8]"
        ),
    ] = None,
    search_time: SearchTimeOption = None,
    prune: PruneOption = False,
    workers: WorkersOption = None,
    no_cache: NoCacheOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no text.")] = False,
) -> None:
    """Compile a model under an energy budget and write the artefact folder.

    Exits with 1 when the budget or the accuracy is not met; the artefact is written all the same.
    """
    given: dict[str, object] = {
        "model": _text(model),
        "entries": parse_entries(entry or ()) or None,
        "target": target,
        "budget": budget,
        "max_drop": max_drop,
        "metric": metric,
        "calib": _text(calib),
        "eval": _text(eval_),
        "precision": precision,
        "quantization": _text(quantization),
        "shapes": {name: list(sizes) for name, sizes in parse_shapes(shape or ()).items()} or None,
        "freeze": parse_values(freeze or ()) or None,
        "dynamic": parse_dynamic(dynamic or ()) or None,
        "input_shapes": input_shape or None,
        "threads": threads,
        "seed": seed,
        "passes": passes,
        "plugins": plugin or None,
        "output": _text(output),
        "strict": strict or None,
        "require_verified": require_verified or None,
        "emulator": emulator,
        "max_evals": max_evals,
        "search_time": search_time,
        "prune": prune or None,
        "workers": workers,
        "carbon_zone": carbon_zone,
        "carbon_intensity": carbon_intensity,
        "carbon_provider": carbon_provider,
        "carbon_inferences": carbon_inferences,
        "carbon_embodied": carbon_embodied,
    }
    resolved = resolve(given, config)
    try:
        report, is_restored = _build(resolved, quiet, carbon_key, cache=not no_cache)
    except KeyboardInterrupt:
        say("gcompile: interrupted; nothing was written")
        raise typer.Exit(INTERRUPTED) from None
    if format_ is Format.JSON:
        show_json(report.model_dump_json(indent=2))
    elif not quiet:
        from gcompile.report.text import render

        show(render(report, bars=is_wide()))
    if not quiet:
        from gcompile.report.layout import unverified_sentences

        unverified = "".join(f"; {sentence}" for sentence in unverified_sentences(report))
        known = " as it was built before (--no-cache builds anew)" if is_restored else ""
        say(f"gcompile: wrote {resolved.output}{known}{unverified}")
    if report.status != "ok":
        if quiet or format_ is Format.JSON:
            say(f"gcompile: {report.message}")
        raise typer.Exit(NOT_MET)


def resolve(given: Mapping[str, object], config: Path | None) -> BuildConfig:
    """Join the options of the command line with those of a file; the command line wins.

    Raises:
        UsageError: There is no model, or an option cannot be used as given.
    """
    from gcompile.cli.source import model_name
    from gcompile.report import BuildConfig, target_names

    values = BuildConfig.read(config) if config else {}
    values |= {name: value for name, value in given.items() if value is not None}
    if not values.get("model") and not values.get("entries"):
        raise UsageError("No model was given. Write `gcompile build model.onnx --target cpu`.")
    resolved = BuildConfig.checked(values, "the options")
    _check(resolved)
    if resolved.output is None:
        targets = "+".join(Path(target).stem for target in target_names(resolved.target))
        first = resolved.model or next(iter(resolved.entries.values()))
        name = f"{model_name(first)}-{targets}"
        resolved = resolved.model_copy(update={"output": name})
    return resolved


def _check(config: BuildConfig) -> None:
    """Find what can be found before any work starts."""
    from gcompile.compiler.formats import check_format
    from gcompile.report import Budget, parse_drop, parse_duration

    parse_duration(config.search_time)
    if config.max_evals < 1:
        raise UsageError(f"--max-evals {config.max_evals} is less than one. Give 1 or more.")
    if config.budget is not None:
        Budget.parse(config.budget)
    parse_drop(config.max_drop)
    if config.threads < 1:
        raise UsageError(f"--threads {config.threads} is less than one. Give 1 or more.")
    if config.dynamic and config.entries:
        raise UsageError("--dynamic is for one model. Bind the shapes of several with --shape.")
    if config.dynamic and config.input_shapes:
        raise UsageError(
            "--input-shape gives every dimension a size. For --dynamic, let the factory return "
            "what torch.export.export gives with dynamic_shapes, or name a .pt2 file of it."
        )
    if config.freeze and config.entries:
        raise UsageError("--freeze is for one model. Export the others without that input.")
    if config.seed < 0:
        raise UsageError(f"--seed {config.seed} is negative. Give 0 or more.")
    if config.precision is not None:
        check_format(config.precision)
    if config.quantization not in list(QuantizationName):
        raise UsageError(
            f"Unknown quantization {config.quantization!r:.40}. Known are: "
            f"{', '.join(QuantizationName)}."
        )


def _build(
    config: BuildConfig, quiet: bool, carbon_key: str | None, *, cache: bool
) -> tuple[Report, bool]:
    """Build and write the folder; say whether the artefact came from the cache."""
    from gcompile.report import Budget, artifact_folder, write_config

    carbon = read_accounting(
        config.carbon_zone,
        config.carbon_intensity,
        config.carbon_provider,
        carbon_key,
        config.carbon_inferences,
        config.carbon_embodied,
    )
    if config.budget is not None:
        budget = Budget.parse(config.budget).on(carbon.intensity if carbon else None)
        if not quiet:
            say(f"gcompile: budget {config.budget} is {budget.echo}")
    with artifact_folder(str(config.output)) as folder, progress(quiet) as show_progress:
        report, is_restored = compiled(config, folder, show_progress, carbon, cache)
        if config.strict:
            _refuse_fallbacks(report)
        write_config(config.relative_to(Path(str(config.output))), folder)
    return report, is_restored


def _refuse_fallbacks(report: Report) -> None:
    fallbacks = dict(report.fallbacks)
    for variant in report.variants:
        fallbacks |= variant.fallbacks
    for entry in report.entries:
        fallbacks |= entry.fallbacks
    if fallbacks:
        listed = "; ".join(f"{name} ({why})" for name, why in sorted(fallbacks.items()))
        raise CompileError(
            f"--strict forbids fallbacks, and these regions need one: {listed}. "
            "Build without --strict to allow them."
        )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
