"""The shape of a target file: which keys it has, in which units, within which ranges.

Every number is written `{value = …, source = "…", status = "…"}`. A source may be the name of an
entry of the file's `[sources]` table. An unknown key is an error.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gcompile.ir import Precision
from gcompile.targets.target import Status


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Number(_Strict):
    """A number in the unit that its key ends with, and where it comes from."""

    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    source: Annotated[str, Field(min_length=1)]
    status: Status


class Architecture(_Strict):
    """Facts of an instruction set and of the pipes that run it."""

    registers: Annotated[int, Field(ge=1, le=1024)]
    vector_bits: Annotated[int, Field(ge=32, le=8192, multiple_of=32)]
    depth: Annotated[int, Field(ge=1, le=64)] = 1
    loads_per_cycle: Annotated[float, Field(gt=0, le=16)] = 2.0
    latency_cycles: Annotated[float, Field(ge=1, le=64)] = 4.0
    operand_registers: Annotated[int, Field(ge=1, le=4)] = 1
    spare_registers: Annotated[int, Field(ge=0, le=8)] = 0
    pixels: Annotated[int, Field(ge=1, le=2)] = 1
    block: tuple[Annotated[int, Field(ge=0, le=1024)], Annotated[int, Field(ge=0, le=1024)]] = (
        0,
        0,
    )
    source: Annotated[str, Field(min_length=1)]
    status: Status


class UnitEntry(_Strict):
    """One `[units.NAME]` table."""

    kind: Literal["scalar", "simd", "matrix"]
    precision: Precision
    peak_ops_per_s: Number
    efficiency: Number
    op_j: Number
    sparse_ops_per_s: Number | None = None
    architecture: Architecture | None = None


class MemoryEntry(_Strict):
    """One `[memories.NAME]` table; tables stand innermost first."""

    size_bytes: Number
    bytes_per_s: Number
    byte_j: Number
    core_bytes_per_s: Number | None = None
    efficiency: Number | None = None
    write_byte_j: Number | None = None
    per_core: bool = False


class PowerEntry(_Strict):
    """The `[power]` table: a limit that the device holds, and what stands around it."""

    limit_w: Number
    lowest_limit_w: Number | None = None
    highest_limit_w: Number | None = None
    exponent: Number
    host_w: Number | None = None
    supply_efficiency: Number | None = None


class StoreEntry(_Strict):
    """One `[array.stores.NAME]` table."""

    size_bytes: Number
    element_bytes: Number
    read_j: Number
    write_j: Number


class MultiplierEntry(_Strict):
    """One `[array.multipliers.NAME]` table."""

    power_ratio: Number
    mean_absolute_error: Number
    mean_relative_error: Number


class ConvertersEntry(_Strict):
    """The `[array.converters]` table of an analog array."""

    input_j: Number
    output_j: Number


class ArrayEntry(_Strict):
    """The `[array]` table of an accelerator."""

    dataflow: Literal["row-stationary", "weight-stationary"]
    multiplier: str = ""
    rows: Number
    columns: Number
    noc_j: Number
    multiply_share: Number | None = None
    stores: dict[Literal["inputs", "weights", "sums"], StoreEntry] = {}
    converters: ConvertersEntry | None = None
    multipliers: dict[str, MultiplierEntry] = {}


_Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CoefficientEntry(_Strict):
    """The cost of one unit of a term, with the interval that resampling the rows gives."""

    value: _Positive
    low: _Positive
    high: _Positive


class CoefficientSetEntry(_Strict):
    """One `[calibration.sets.PRECISION]` table."""

    rows: Annotated[int, Field(ge=1)]
    fold_error: _Positive
    family_error: _Positive | None = None
    energy_j: dict[str, CoefficientEntry]
    time_s: dict[str, CoefficientEntry] = {}


class CalibrationEntry(_Strict):
    """The `[calibration]` table, as `gcompile calibrate` writes it."""

    source: Annotated[str, Field(min_length=1)]
    status: Literal["measured"]
    date: str
    sets: Annotated[dict[Precision, CoefficientSetEntry], Field(min_length=1)]


class TargetEntry(_Strict):
    """A whole file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    kind: Literal["cpu", "gpu", "accelerator"]
    description: str
    boundary: Literal["chip", "board", "wall"]
    isa: list[str] = []
    is_shared: bool = False
    calibrated: bool = False
    cores: Number
    clock_hz: Number
    static_w: Number
    core_w: Number
    launch_s: Number
    launch_j: Number
    parallel_launch_s: Number
    vector_efficiency: Number
    relative_error: Number
    ratio_error: Number
    processors: Number | None = None
    power: PowerEntry | None = None
    array: ArrayEntry | None = None
    calibration: CalibrationEntry | None = None
    sources: dict[str, str] = {}
    units: dict[str, UnitEntry]
    memories: dict[str, MemoryEntry]


RANGES = {
    "cores": (1, 4096),
    "clock_hz": (1e6, 1e10),
    "static_w": (0, 1e4),
    "core_w": (0, 100),
    "launch_s": (0, 1e-3),
    "parallel_launch_s": (0, 1e-3),
    "launch_j": (0, 1e-1),
    "vector_efficiency": (0.01, 1),
    "efficiency": (0.01, 1),
    "relative_error": (0.01, 10),
    "ratio_error": (0.01, 10),
    "peak_ops_per_s": (1e6, 1e17),
    "op_j": (1e-16, 1e-8),
    "size_bytes": (1, 1e14),
    "bytes_per_s": (1e6, 1e16),
    "core_bytes_per_s": (1e6, 1e16),
    "byte_j": (1e-15, 1e-8),
    "write_byte_j": (1e-15, 1e-8),
    "sparse_ops_per_s": (1e6, 1e17),
    "processors": (1, 1024),
    "limit_w": (1, 2000),
    "lowest_limit_w": (1, 2000),
    "highest_limit_w": (1, 2000),
    "exponent": (1, 3),
    "host_w": (0, 1e4),
    "supply_efficiency": (0.5, 1),
    "rows": (1, 4096),
    "columns": (1, 4096),
    "noc_j": (0, 1e-9),
    "multiply_share": (0, 1),
    "element_bytes": (0.5, 8),
    "read_j": (1e-16, 1e-9),
    "write_j": (1e-16, 1e-9),
    "input_j": (1e-16, 1e-9),
    "output_j": (1e-16, 1e-9),
    "power_ratio": (0.01, 1),
    "mean_absolute_error": (0, 1),
    "mean_relative_error": (0, 1),
}
"""What a key may hold, in its own unit: a number outside is a slip of the unit."""
