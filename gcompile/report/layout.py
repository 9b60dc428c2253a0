"""What every rendering of a report shows, decided once: sentences and rows, no markup."""

from __future__ import annotations

from collections.abc import Sequence

from gcompile.report.budget import Budget
from gcompile.report.carbon import carbon_rows
from gcompile.report.dynamic import dynamic_rows
from gcompile.report.quantity import (
    format_change,
    format_energy,
    format_share,
    format_time,
    printable,
)
from gcompile.report.report import (
    EnergySection,
    EntrySection,
    EstimateLayer,
    LayerSection,
    PassSection,
    Report,
    VariantSection,
    Verify,
)

PASS_COLUMNS = ("pass", "before", "after", "change", "what happened")
LAYER_COLUMNS = ("layer", "operators", "precision", "energy", "share", "time", "error share")


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """Label and sentence for everything a reader wants first."""
    rows = [
        ("model", f"{printable(report.model)} for {printable(report.target)}"),
        ("status", f"{report.status}: {printable(report.message)}"),
        ("budget", _budget(report)),
        ("energy as given", energy_text(report.energy.before)),
        ("  exact passes", energy_text(report.energy.exact)),
        ("  as compiled", energy_text(report.energy.after)),
        ("of that", _causes(report.energy.after)),
        ("compared", _compared(report)),
        ("estimated by", estimator_text(report.estimated_by, report.energy.after)),
        (
            "time",
            f"{format_time(report.energy.after.time_s)} estimated, {threads_text(report.threads)}",
        ),
        ("accuracy", _accuracy(report)),
    ]
    if report.fidelity is not None:
        rows.append(("fidelity", _fidelity(report)))
    rows.append(("verified", _verify(report)))
    if report.energy_per_token_j is not None:
        rows.append(("per token", _per_token(report.energy_per_token_j, report.tokens)))
    rows += carbon_rows(report.carbon)
    if report.peak_memory_bytes is not None:
        rows.append(("peak memory", f"{report.peak_memory_bytes / 1e6:.2f} MB of tensors"))
    rows += [_variant_row(variant) for variant in report.variants]
    if report.dynamic is not None:
        return rows + dynamic_rows(report.dynamic)
    return rows + [_entry_row(entry) for entry in report.entries]


def unverified_sentences(report: Report) -> list[str]:
    """For each variant whose code was not run, that it was not, and why."""
    if not report.variants:
        return [sentence for sentence in [_not_run(report.verify)] if sentence]
    return [
        f"for {printable(variant.name)} {_not_run(variant.verify)}"
        for variant in report.variants
        if _not_run(variant.verify)
    ]


def energy_text(energy: EnergySection, per: str = "inference") -> str:
    """A total with its band and boundary: no total is shown without them."""
    return (
        f"{format_energy(energy.energy_j)} per {per} "
        f"({format_energy(energy.low_j)} to {format_energy(energy.high_j)}, "
        f"{printable(energy.boundary)} boundary)"
    )


def estimator_text(estimated_by: str, energy: EnergySection) -> str:
    """Which model predicted the joules, and how static power is charged."""
    policies = {
        "full": "static power charged for the whole time of the inference",
        "marginal": "static power not charged",
    }
    policy = policies.get(energy.idle_policy, f"idle policy {printable(energy.idle_policy)}")
    return f"{printable(estimated_by)} (a prediction, not a measurement); {policy}"


def threads_text(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread{'s' * (threads != 1)}"


def pass_rows(report: Report) -> list[tuple[str, ...]]:
    """One row per pass, matching `PASS_COLUMNS`."""
    return [
        (
            printable(entry.name),
            format_energy(entry.before_j),
            format_energy(entry.after_j),
            format_change(entry.before_j, entry.after_j),
            pass_outcome(entry),
        )
        for entry in report.passes
    ]


def is_idle(entry: PassSection) -> bool:
    """Whether a pass found nothing to do, and nothing it had to leave alone."""
    return not entry.changed and not entry.skipped


def pass_outcome(entry: PassSection) -> str:
    """What a pass did and why not more: `12 rewrites; skipped: weight shared (2)`."""
    parts = [f"{entry.changed} rewrite{'s' * (entry.changed != 1)}" if entry.changed else "none"]
    if not entry.kept:
        parts.append("reverted: it does not pay on this target")
    if entry.skipped:
        reasons = sorted(entry.skipped.items(), key=lambda item: (-item[1], item[0]))
        parts.append("skipped: " + ", ".join(f"{printable(r)} ({n})" for r, n in reasons))
    return "; ".join(parts)


def dearest(layers: Sequence[LayerSection], top: int | None) -> list[LayerSection]:
    """The layers that cost most, dearest first; all of them when `top` is None."""
    ordered = sorted(layers, key=lambda layer: -layer.energy_j)
    return ordered if top is None else ordered[:top]


def dearest_estimates(layers: Sequence[EstimateLayer], top: int | None) -> list[EstimateLayer]:
    """The same for an estimate."""
    ordered = sorted(layers, key=lambda layer: -layer.energy_j)
    return ordered if top is None else ordered[:top]


def place_columns(layers: Sequence[LayerSection | EstimateLayer]) -> tuple[str, ...]:
    """The columns that say where in a PyTorch module layers are: none where none is known."""
    return ("module", "source") if any(layer.module is not None for layer in layers) else ()


def place_cells(layer: LayerSection | EstimateLayer) -> tuple[str, str]:
    """The cells of `place_columns`."""
    module = "(outermost)" if layer.module == "" else layer.module or ""
    return printable(module), printable(layer.source or "")


def layer_table(
    layers: Sequence[LayerSection], total_j: float
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns, places included, and one row for each layer."""
    places = place_columns(layers)
    rows = [
        (*layer_row(layer, total_j), *(place_cells(layer) if places else ())) for layer in layers
    ]
    return (*LAYER_COLUMNS, *places), rows


def layer_row(layer: LayerSection, total_j: float) -> tuple[str, ...]:
    """One row matching `LAYER_COLUMNS`."""
    return (
        printable(layer.name),
        printable(layer.op),
        printable(layer.precision),
        format_energy(layer.energy_j),
        format_share(share_of(layer.energy_j, total_j)),
        format_time(layer.time_s),
        "" if layer.error is None else format_share(layer.error),
    )


def share_of(energy_j: float, total_j: float) -> float:
    """A layer's part of the total, between 0 and 1."""
    return energy_j / total_j if total_j else 0.0


def note_sentences(report: Report) -> list[str]:
    """Everything the reader should know that is not a number."""
    sentences = [printable(note) for note in report.notes]
    for name, reason in sorted(report.fallbacks.items()):
        sentences.append(f"generic code runs {printable(name)}: {printable(reason)}")
    return sentences


def _budget(report: Report) -> str:
    budget = report.budget
    if budget.energy_j is None or budget.requested is None:
        return "none given"
    verdict = "met" if budget.met else "not met"
    echo = Budget.parse(budget.requested).echo
    limit = f"at most {format_energy(budget.energy_j)} per inference"
    return f"{printable(budget.requested)} ({echo}): {limit}, {verdict}"


def _causes(energy: EnergySection) -> str:
    """Where the joules go, largest first."""
    causes = {
        "compute": energy.compute_j,
        **{f"moving data at {printable(name)}": j for name, j in energy.movement_j.items()},
        "starting kernels": energy.launch_j,
        "static power": energy.static_j,
    }
    ordered = sorted(causes.items(), key=lambda item: -item[1])
    shown = [f"{name} {format_share(share_of(j, energy.energy_j))}" for name, j in ordered if j]
    return ", ".join(shown) or "nothing"


def _compared(report: Report) -> str:
    energy = report.energy
    after = energy.after.energy_j
    return (
        f"{format_change(energy.before.energy_j, after)} against the model as given, "
        f"{format_change(energy.exact.energy_j, after)} against the exact passes alone"
    )


def _accuracy(report: Report) -> str:
    if report.accuracy is None:
        return "not measured: no evaluation rows were given"
    accuracy = report.accuracy
    return (
        f"{printable(accuracy.metric)} {accuracy.reference:.4f} as given, "
        f"{accuracy.compiled:.4f} compiled "
        f"(drop {accuracy.reference - accuracy.compiled:+.4f}, at most {accuracy.max_drop:g}; "
        f"{accuracy.rows} rows)"
    )


def _fidelity(report: Report) -> str:
    if report.fidelity is None:
        return "not measured"
    fidelity = report.fidelity
    noise = "no error" if fidelity.sqnr_db is None else f"SQNR {fidelity.sqnr_db:.1f} dB"
    return f"{noise}, cosine {fidelity.cosine:.6f} ({fidelity.rows} calibration rows)"


def _not_run(verify: Verify) -> str:
    if verify.code_ran not in ("no", "on-cpu"):
        return ""
    reason = printable(verify.reason or "no reason was given")
    if verify.code_ran == "on-cpu":
        return f"the machine code itself was not run, its kernels' CPU form was: {reason}"
    return f"the code itself was not run: {reason}"


def _variant_row(variant: VariantSection) -> tuple[str, str]:
    accuracy = variant.accuracy
    parts = [
        variant.status,
        energy_text(variant.energy),
        f"{format_time(variant.energy.time_s)} estimated",
    ]
    if accuracy is not None:
        parts.append(f"{printable(accuracy.metric)} {accuracy.compiled:.4f}")
    parts.append(f"verified {_verification(variant.verify)}")
    return f"variant {printable(variant.name)}", "; ".join(parts)


def _per_token(energy_j: float, tokens: int | None) -> str:
    return f"{format_energy(energy_j)}, {tokens} in an inference"


def _entry_row(entry: EntrySection) -> tuple[str, str]:
    parts: list[str] = [entry.status]
    if entry.energy_per_token_j is not None:
        parts.append(f"{_per_token(entry.energy_per_token_j, entry.tokens)} (per token)")
    parts += [
        energy_text(entry.energy),
        f"{format_time(entry.energy.time_s)} estimated",
        f"verified {_verification(entry.verify)}",
    ]
    return f"entry {printable(entry.name)}", "; ".join(parts)


def _verify(report: Report) -> str:
    return _verification(report.verify)


_HOW_RUN = {
    "emulated": "under an emulator, ",
    "on-cpu": "by the kernels' CPU form (accuracy and fidelity are those of the reference runtime "
    "running the same optimised model), ",
}


def _verification(verify: Verify) -> str:
    if verify.max_abs_error is None or verify.cosine is None:
        return (
            f"no: {_not_run(verify)}; accuracy and fidelity are those of the reference "
            "runtime running the same optimised model"
        )
    how = _HOW_RUN.get(verify.code_ran, "")
    return (
        f"{how}against the reference runtime on {verify.rows} row{'s' * (verify.rows != 1)}: "
        f"largest error {verify.max_abs_error:.3g} "
        f"(allowed: {verify.tolerance * 100:g} % of the output's range), "
        f"cosine {verify.cosine:.6f}"
    )
