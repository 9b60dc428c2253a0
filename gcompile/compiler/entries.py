"""Compile several models into one artefact, whose entry points share their weights."""

from __future__ import annotations

import gc
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

from gcompile import ir
from gcompile.backends.tvm.join import ArtifactJoin
from gcompile.backends.weight_limits import WeightLimits
from gcompile.compiler.compiled import temporary_folder
from gcompile.compiler.job import Job, Progress, prepare
from gcompile.compiler.named_targets import named_targets, prefixed
from gcompile.compiler.sources import Source, read_graph
from gcompile.compiler.whole import compile_jobs
from gcompile.energy.carbon import Accounting, Intensity
from gcompile.errors import UsageError
from gcompile.passes import Arrays
from gcompile.passes.precision import Preset
from gcompile.report import (
    Budget,
    Report,
    artifact_folder,
    check_output,
    entries_report,
    move_reports,
    write_report,
)
from gcompile.search import Metric
from gcompile.targets import Target

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")
ENTRY_LIMITS = WeightLimits(file_bytes=0, each_bytes=1 << 10)
"""Each library has a copy of the weights that stay in it: only very small ones do."""


@dataclass(frozen=True)
class Entry:
    """One model of several.

    Attributes:
        model: A model, or a function that makes it when its turn comes.
        shapes: A static shape for each input with free dimensions.
        example_inputs: What a PyTorch module takes.
        dynamic_shapes: Free dimensions of a module's inputs.
        tokens: Tokens that one inference takes in; by default as many as `input_ids` has elements.
    """

    model: Source | Callable[[], ir.Model]
    shapes: ir.Shapes | None = None
    example_inputs: ir.Inputs | None = None
    dynamic_shapes: object = None
    tokens: int | None = None


class Options(TypedDict, total=False):
    """What `gcompile.compile` takes for every entry point alike."""

    budget: Budget | str | None
    max_drop: float | str
    metric: str | Metric
    calib: Arrays | str | Path | None
    evaluate: Arrays | str | Path | None
    precision: ir.Precision | str | None
    passes: str | None
    threads: int
    seed: int
    plugins: Sequence[str]
    carbon: Accounting | Intensity | str | float | None
    cache: bool | str | Path
    emulator: str | None
    require_verified: bool
    evaluations: int
    search_time: float | str | None
    quantization: Preset | str
    prune: bool
    workers: str | int | None


@dataclass(frozen=True)
class CompiledEntries:
    """What was compiled.

    Attributes:
        folder: The artefact; `gcompile.runtime.load(folder, entry=NAME)` loads an entry point.
        report: On the first entry point, with a section on each.
        reports: On each entry point, by name.
    """

    folder: Path
    report: Report
    reports: Mapping[str, Report]


def compile_entries(
    entries: Mapping[str, Entry | Source],
    target: Target | str | Sequence[Target | str] = "cpu",
    *,
    output: str | Path | None = None,
    progress: Progress | None = None,
    with_models: bool = True,
    **options: Unpack[Options],
) -> CompiledEntries:
    """Compile several models into one artefact, such as the prefill and decode of a decoder.

    They are compiled one after the other, and nothing of one but its report is in memory when the
    next begins: models that are made by functions need the memory of the largest, not of all.
    Weights that two entry points pack alike lie once in `weights.bin`.

    Args:
        entries: The models by the names of their entry points.
        target: As for `gcompile.compile`; every entry point has a variant for each target.
        output: The folder to write, whole or not at all; by default a temporary one.
        progress: Told what is being done and the fraction done.
        with_models: Whether to write the optimised models as well, as `NAME.onnx`.
        **options: Those of `gcompile.compile`, for all entry points alike. A relative budget is
            one of each entry point.

    Raises:
        UsageError: There are no entries, or a name is not letters, digits, `.`, `_` and `-`.
        GcompileError: As for `gcompile.compile`.
    """
    _check_names(entries)
    folder = Path(output) if output else temporary_folder()
    check_output(folder)
    reports: dict[str, Report] = {}
    with artifact_folder(folder) as whole:
        join = ArtifactJoin(whole)
        for name, given in entries.items():
            entry = given if isinstance(given, Entry) else Entry(given)
            tell = prefixed(name, progress)
            part = whole / f".{name}"
            jobs = _jobs(entry, target, tell, options)
            reports[name] = compile_jobs(jobs, part, stem=name, with_model=with_models).report
            del jobs
            gc.collect()  # Graphs are cycles, which would keep their weights for long.
            join.add(name, part)
            move_reports(part, whole, name)
            shutil.rmtree(part)
        report = entries_report(reports)
        join.finish(report.status)
        write_report(report, whole)
    return CompiledEntries(folder, report, reports)


def decoder_entries(
    model: ir.TorchModule, steps: Mapping[str, int], length: int, batch: int = 1
) -> dict[str, Entry]:
    """Entry points of a decoder of `transformers`, for `compile_entries`.

    Each takes tokens and an explicit cache; see `gcompile.ir.decoder_step`. A
    `gcompile.runtime.Session` keeps the cache between calls.

    Args:
        model: Such as a `LlamaForCausalLM`.
        steps: Tokens of a step by the name of its entry point: `{"prefill": 16, "decode": 1}`.
        length: Positions that the cache has room for.
        batch: Sequences at a time.
    """
    return {
        name: Entry(partial(ir.decoder_step, model, tokens, length, batch))
        for name, tokens in steps.items()
    }


def _jobs(
    entry: Entry,
    target: Target | str | Sequence[Target | str],
    progress: Progress | None,
    options: Options,
) -> dict[str, Job]:
    source = entry.model
    if callable(source) and not hasattr(source, "named_parameters"):
        source = source()
    graph = read_graph(source, entry.example_inputs, entry.dynamic_shapes)
    return {
        name: prepare(
            graph,
            device,
            shapes=entry.shapes,
            progress=stages,
            tokens=entry.tokens,
            limits=ENTRY_LIMITS,
            **options,
        )
        for name, device, stages in named_targets(target, progress)
    }


def _check_names(entries: Mapping[str, object]) -> None:
    if not entries:
        raise UsageError("No entry points were given. Name at least one model.")
    for name in entries:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"Entry point {name!r:.60} is no name: use letters, digits, '.', '_' and '-'."
            )
