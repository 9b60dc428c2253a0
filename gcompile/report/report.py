"""What a compilation did, as data: the models behind report.json.

Names are an interface that other programs read, so they only change with `schema_version`.
Energies are joules per inference and are predictions; `energy.*.low_j` and `high_j` bound them.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from gcompile.report.carbon import CarbonSection
from gcompile.report.power import PowerSection
from gcompile.report.section import Section

Status = Literal["ok", "budget_not_met", "accuracy_not_met"]


def _none_if_infinite(value: object) -> object:
    return None if isinstance(value, float) and math.isinf(value) else value


class BudgetSection(Section):
    """The energy budget; all null when there was none."""

    requested: str | None = None
    """As the user wrote it."""
    energy_j: float | None = None
    """The limit it comes to, in joules per inference."""
    met: bool | None = None
    """Whether `energy.after` stays within the limit."""


class EnergySection(Section):
    """What one inference should cost: a prediction, with everything needed to read it."""

    energy_j: float
    low_j: float
    """Lower end of the uncertainty band."""
    high_j: float
    """Upper end of the uncertainty band."""
    time_s: float
    boundary: str
    """What the joules include: chip, board or wall."""
    idle_policy: str
    """Whether static power during the inference is charged."""
    compute_j: float
    movement_j: dict[str, float]
    """Joules of moving data, by memory level."""
    launch_j: float
    static_j: float


class Energies(Section):
    """The same model at three moments."""

    before: EnergySection
    """As given, unfused."""
    exact: EnergySection
    """After the passes that change no result: what relative budgets count from."""
    after: EnergySection
    """As compiled."""


class Accuracy(Section):
    """The task metric, measured on the evaluation rows."""

    metric: str
    reference: float
    """Of the model as given, run by the reference runtime."""
    compiled: float
    """Of the compiled code."""
    rows: int
    max_drop: float
    """The largest loss allowed, as a difference of the metric."""


class Fidelity(Section):
    """How close the outputs stay to the model's as given, on calibration rows."""

    sqnr_db: Annotated[float | None, BeforeValidator(_none_if_infinite)]
    """Signal to quantization noise in decibels; null when the outputs are identical."""
    cosine: float
    rows: int


class Verify(Section):
    """The compiled code against the reference runtime running the same optimised model."""

    max_abs_error: float | None = None
    """In the units of the output; null where the code was not run."""
    cosine: float | None = None
    tolerance: float
    """The largest error allowed, as a share of the output's range."""
    rows: int
    code_ran: Literal["natively", "emulated", "on-cpu", "no"] = "natively"
    """Whether the code itself ran; if not, accuracy and fidelity are those of the reference
    runtime running the same optimised model. `on-cpu`: the text of the GPU's kernels ran, compiled
    for the CPU."""
    reason: str | None = None
    """Why the code did not run on this machine; null where it did."""

    @model_validator(mode="after")
    def _compared_if_run(self) -> Verify:
        """Code that ran was compared, other code was not."""
        compared = self.max_abs_error is not None and self.cosine is not None
        if compared == (self.code_ran == "no"):
            raise ValueError("errors are given if and only if the code ran")
        return self


class PassSection(Section):
    """One pass: the ledger's entry."""

    name: str
    changed: int
    """Rewrites made."""
    seconds: float
    before_j: float
    after_j: float
    kept: bool
    """False when it was reverted because it did not pay on this target."""
    skipped: dict[str, int]
    """How often each reason kept the pass from a rewrite."""


class LayerSection(Section):
    """One region of the compiled model: the nodes that run as one kernel."""

    name: str
    op: str
    precision: str
    energy_j: float
    time_s: float
    error: float | None = None
    """Its share of the output error, between 0 and 1; null where it was not measured."""
    module: str | None = None
    """The path in the PyTorch module it comes from, empty for the outermost; null if not known."""
    source: str | None = None
    """The line of Python it comes from, as FILE:LINE; null if not known."""


class VariantSection(Section):
    """The code for one of several targets in one artefact."""

    name: str
    """What `--variant` calls it."""
    target: str
    status: Status
    message: str
    energy: EnergySection
    """As compiled."""
    accuracy: Accuracy | None = None
    fidelity: Fidelity | None = None
    verify: Verify
    fallbacks: dict[str, str] = Field(default_factory=dict)
    """Regions that generic code runs, with the reason."""
    peak_memory_bytes: int | None = None


class EntrySection(Section):
    """One of several entry points in one artefact."""

    name: str
    """What `--entry` calls it."""
    model: str
    status: Status
    message: str
    energy: EnergySection
    """Of one inference, as compiled."""
    tokens: int | None = None
    """Tokens that one inference takes in; null where it takes none."""
    energy_per_token_j: float | None = None
    """`energy.energy_j` by `tokens`."""
    accuracy: Accuracy | None = None
    fidelity: Fidelity | None = None
    verify: Verify
    fallbacks: dict[str, str] = Field(default_factory=dict)
    """Regions that generic code runs, with the reason."""
    peak_memory_bytes: int | None = None


class DimensionSection(Section):
    """One free dimension of a model that was compiled for several of its sizes."""

    name: str
    kind: Literal["rows", "padded", "exact"]
    """Rows are divided among runs, padded sizes are filled up with zeros, of exact ones no others
    run."""
    sizes: list[int]
    """Those that were compiled."""


class SizeSection(Section):
    """The model at one size of its free dimensions."""

    entry: str
    """The entry point; its section in `entries` says more."""
    sizes: dict[str, int]
    energy_j: float
    """Of one run."""
    low_j: float
    high_j: float
    time_s: float


class FitSection(Section):
    """Joules of one run as a sum of products of sizes."""

    terms: dict[str, float]
    """Joules by what they are multiplied with: `1`, `batch`, `length` or `batch*length`."""
    max_relative_error: float
    """The most that the sum misses a compiled size by, as a share of its joules."""


class DynamicSection(Section):
    """Energy as a function of the free dimensions."""

    dimensions: list[DimensionSection]
    points: list[SizeSection]
    fit: FitSection


class Report(Section):
    """What a compilation did, and where every joule went."""

    schema_version: Literal[1] = 1
    gcompile_version: str
    model: str
    target: str
    threads: int
    seed: int
    versions: dict[str, str] = Field(default_factory=dict)
    """Of Python and the libraries that took part."""
    estimated_by: str
    """The energy model behind every joule in this report."""
    status: Status
    message: str
    """One sentence; where a constraint was missed, which one binds and what is reachable."""
    budget: BudgetSection
    energy: Energies
    accuracy: Accuracy | None = None
    fidelity: Fidelity | None = None
    passes: list[PassSection]
    layers: list[LayerSection]
    verify: Verify
    fallbacks: dict[str, str] = Field(default_factory=dict)
    """Regions that generic code runs instead of our own kernels, with the reason."""
    peak_memory_bytes: int | None = None
    """Of the largest set of live tensors while running, if known."""
    carbon: CarbonSection | None = None
    """Emissions; null unless a grid was given."""
    power: PowerSection | None = None
    """What lower power limits and clocks should cost; null where the target is no GPU."""
    variants: list[VariantSection] = Field(default_factory=list)
    """One for each target of an artefact with several; the rest of the report is on the first."""
    entries: list[EntrySection] = Field(default_factory=list)
    """One for each entry point of an artefact with several; the rest is on the first."""
    dynamic: DynamicSection | None = None
    """Where the entry points are one model at several sizes: what a run takes by its size."""
    tokens: int | None = None
    """Tokens that one inference takes in; null where it takes none."""
    energy_per_token_j: float | None = None
    """`energy.after.energy_j` by `tokens`."""
    notes: list[str] = Field(default_factory=list)
    """Sentences the user should read."""


class EstimateLayer(Section):
    """One region of an estimated model."""

    name: str
    energy_j: float
    time_s: float
    compute_j: float
    movement_j: dict[str, float]
    launch_j: float
    static_j: float
    module: str | None = None
    """The path in the PyTorch module it comes from, empty for the outermost; null if not known."""
    source: str | None = None
    """The line of Python it comes from, as FILE:LINE; null if not known."""


class EstimateReport(Section):
    """What `gcompile estimate` prints."""

    schema_version: Literal[1] = 1
    gcompile_version: str
    model: str
    target: str
    estimated_by: str
    batch: int = 1
    """Samples of one run: all joules and seconds here are for all of them together."""
    energy: EnergySection
    carbon: CarbonSection | None = None
    """Emissions of one run; null unless a grid was given."""
    layers: list[EstimateLayer]
