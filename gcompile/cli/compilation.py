"""What a configuration asks of the compiler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gcompile.cli.entries import named_entries
from gcompile.cli.kept_memory import keep_freed_memory

if TYPE_CHECKING:
    from gcompile.compiler.entries import Options
    from gcompile.compiler.job import Progress
    from gcompile.energy.carbon import Accounting
    from gcompile.report import BuildConfig, Report


def compiled(
    config: BuildConfig,
    folder: Path,
    progress: Progress | None,
    carbon: Accounting | None,
    cache: bool,
) -> tuple[Report, bool]:
    """Compile the model of a configuration, or its entry points, into a folder.

    Returns its report, and whether the artefact came from the cache.
    """
    from gcompile.cli.source import read_source
    from gcompile.compiler import compile

    keep_freed_memory()
    options: Options = {
        "budget": config.budget,
        "max_drop": config.max_drop,
        "metric": config.metric,
        "calib": config.calib,
        "evaluate": config.eval,
        "precision": config.precision,
        "quantization": config.quantization,
        "passes": config.passes,
        "threads": config.threads,
        "seed": config.seed,
        "plugins": config.plugins,
        "carbon": carbon,
        "cache": cache,
        "emulator": config.emulator,
        "require_verified": config.require_verified,
        "evaluations": config.max_evals,
        "search_time": config.search_time,
        "prune": config.prune,
        "workers": config.workers,
    }
    if config.entries:
        from gcompile.compiler.entries import compile_entries

        entries = named_entries(config)
        joined = compile_entries(
            entries, config.target, output=folder, progress=progress, **options
        )
        return joined.report, False
    source, inputs = read_source(config.model, config.input_shapes, config.freeze)
    built = compile(
        source,
        config.target,
        example_inputs=inputs,
        shapes={name: tuple(sizes) for name, sizes in config.shapes.items()},
        dynamic=config.dynamic,
        output=folder,
        progress=progress,
        **options,
    )
    return built.report, built.is_restored
