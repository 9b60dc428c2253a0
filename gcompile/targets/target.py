"""One device: what it computes with, what it remembers in, what that costs.

Every number is in SI units with the unit at the end of its name, and `sources` says where it comes
from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gcompile.ir import Precision
from gcompile.targets.calibration import Calibration

Status = Literal["read", "read_secondary", "derived", "measured", "unverified"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number comes from, and how sure that is."""

    text: str
    status: Status


@dataclass(frozen=True, slots=True)
class Unit:
    """An execution unit for one precision, all cores together.

    Attributes:
        name: What the code generator calls it: `avx512`, `avx512-vnni`, `amx-int8`, `neon`, …
        kind: `matrix` units only do dense products; `simd` units do everything.
        peak_ops_per_s: Dense peak of the whole device, 2 operations per multiply-accumulate.
        efficiency: The fraction of the peak that code reaches whose register blocks are full.
        op_j: Dynamic energy of one operation.
        registers: Vector registers, or tile registers of a matrix unit.
        vector_bits: Width of one register; accumulators take 32 bits per lane.
        depth: Products that one instruction sums in each lane: 4 for int8 dot products.
        loads_per_cycle: Registers one core loads per cycle.
        latency_cycles: Cycles before an accumulator can be used again.
        operand_registers: Registers that one loaded operand takes: 2 where it is widened.
        spare_registers: Registers a product needs besides accumulators and operands.
        pixels: Pixels that one instruction multiplies; it reads as many operands of weights.
        sparse_ops_per_s: Peak on weights of which two in four are zero, zeros counted; 0 where
            there is no such unit. Dense work never runs at it.
        block: Rows and columns of the product that one processor of a GPU keeps on chip; zeros
            where kernels are cut into register blocks instead.
    """

    name: str
    kind: Literal["scalar", "simd", "matrix"]
    precision: Precision
    peak_ops_per_s: float
    efficiency: float
    op_j: float
    registers: int = 16
    vector_bits: int = 128
    depth: int = 1
    loads_per_cycle: float = 2.0
    latency_cycles: float = 4.0
    operand_registers: int = 1
    spare_registers: int = 0
    pixels: int = 1
    sparse_ops_per_s: float = 0.0
    block: tuple[int, int] = (0, 0)

    @property
    def lanes(self) -> int:
        """Accumulators of 32 bits in one vector register."""
        return self.vector_bits // 32


@dataclass(frozen=True, slots=True)
class Memory:
    """One level of the memory hierarchy.

    Attributes:
        size_bytes: Capacity: of one core's copy where `per_core`, else of the device.
        bytes_per_s: Bandwidth of the whole device towards the cores.
        byte_j: Energy to move one byte from this level to the next inner one.
        core_bytes_per_s: The most one core draws from a level that cores share; 0 sets no limit.
        efficiency: The fraction of the bandwidth that kernels reach.
        write_byte_j: Energy to write one byte; 0 where it costs as much as a read.
    """

    name: str
    size_bytes: float
    bytes_per_s: float
    byte_j: float
    per_core: bool = False
    core_bytes_per_s: float = 0.0
    efficiency: float = 1.0
    write_byte_j: float = 0.0

    def bandwidth(self, threads: int, cores: int) -> float:
        """Return the bytes per second that `threads` of `cores` cores draw together."""
        whole = self.bytes_per_s * self.efficiency
        if self.per_core:
            return whole * threads / cores
        if not self.core_bytes_per_s:
            return whole
        return min(whole, threads * self.core_bytes_per_s)


@dataclass(frozen=True, slots=True)
class Power:
    """How a device holds its power, and what stands around it.

    Attributes:
        limit_w: Static and dynamic power of the device itself stay below it: the clock falls.
        lowest_limit_w: The lowest limit that can be set; 0 when unknown.
        highest_limit_w: The highest limit that can be set; 0 when unknown.
        exponent: Dynamic power of the cores grows with this power of the clock.
        host_w: Power of everything else in the box, per device, while it runs.
        supply_efficiency: Watts inside the box per watt at the wall.
    """

    limit_w: float
    lowest_limit_w: float = 0.0
    highest_limit_w: float = 0.0
    exponent: float = 2.15
    host_w: float = 0.0
    supply_efficiency: float = 1.0


@dataclass(frozen=True, slots=True)
class Multiplier:
    """A published approximate multiplier: what it saves and how wrong it is.

    Attributes:
        power_ratio: Its power over that of the exact one.
        mean_absolute_error: Mean distance from the true product, as a share of the largest.
        mean_relative_error: Mean distance as a share of the true product.
    """

    power_ratio: float
    mean_absolute_error: float
    mean_relative_error: float


@dataclass(frozen=True, slots=True)
class Store:
    """A small memory inside each processing element.

    Attributes:
        size_bytes: Capacity in one element.
        element_bytes: Size of one number it holds.
    """

    size_bytes: float
    element_bytes: float
    read_j: float
    write_j: float


@dataclass(frozen=True, slots=True)
class Array:
    """The processing elements of an accelerator.

    Attributes:
        dataflow: `row-stationary` keeps filter rows in the elements and slides the image past;
            `weight-stationary` holds weights as conductances and sums along the columns.
        rows: Elements of one column.
        columns: Elements of one row.
        noc_j: Energy to deliver one number over the network to an element.
        stores: `inputs`, `weights` and `sums` of each element; none of them where weights are
            the array itself.
        converter_j: Energy of one conversion: `input` to analog, `output` back; analog arrays.
        multipliers: Approximate multipliers that were published for such elements, by name.
        multiplier: The one that is built in; empty for the exact one.
        multiply_share: The multiplier's share of the energy of a multiply-accumulate.
    """

    dataflow: Literal["row-stationary", "weight-stationary"]
    rows: int
    columns: int
    noc_j: float = 0.0
    stores: Mapping[str, Store] = field(default_factory=dict)
    converter_j: Mapping[str, float] = field(default_factory=dict)
    multipliers: Mapping[str, Multiplier] = field(default_factory=dict)
    multiplier: str = ""
    multiply_share: float = 1.0

    @property
    def operation_ratio(self) -> float:
        """Energy of a multiply-accumulate relative to one with an exact multiplier."""
        if not self.multiplier:
            return 1.0
        saved = 1 - self.multipliers[self.multiplier].power_ratio
        return 1 - self.multiply_share * saved


@dataclass(frozen=True)
class Target:
    """One device.

    Attributes:
        isa: Instruction-set flags as Linux names them (`avx512_vnni`, `amx_int8`, `asimddp`, …).
        cores: Cores that may be used. A GPU counts as one: a kernel takes all of it.
        memories: Innermost (L1) first, DRAM last.
        static_w: Power drawn whatever runs, inside the boundary, while the inference runs.
        launch_s: Time to start one kernel.
        launch_j: Dynamic energy to start one kernel.
        relative_error: Half-width of the uncertainty of an absolute estimate: 0.6 means the truth
            lies between estimate / 1.6 and estimate · 1.6.
        calibrated: Whether measurements of this very device set the coefficients.
        parallel_launch_s: Time to start one kernel on more than one core, on top of `launch_s`.
        core_w: Dynamic power of one core that runs, whatever it executes or waits for.
        vector_efficiency: The fraction of the vector peak that elementwise, depthwise and
            reduction code reaches.
        is_shared: Other work uses the other cores: an inference pays the static power of the
            cores it uses. Otherwise it pays all of it.
        ratio_error: Half-width of the uncertainty of a ratio of two estimates on this device.
        processors: Multiprocessors of a GPU: a kernel with fewer blocks leaves some idle.
        power: Limit of the device's power, and its surroundings; None where the clock is fixed and
            `static_w` counts everything.
        array: The processing elements of an accelerator.
        calibration: What rows measured on this device say; prices then come from these alone.
    """

    name: str
    kind: Literal["cpu", "gpu", "accelerator"]
    description: str
    boundary: Literal["chip", "board", "wall"]
    isa: frozenset[str]
    cores: int
    clock_hz: float
    units: tuple[Unit, ...]
    memories: tuple[Memory, ...]
    static_w: float
    launch_s: float
    launch_j: float
    relative_error: float
    calibrated: bool = False
    is_host: bool = False
    sources: Mapping[str, Source] = field(default_factory=dict, compare=False)
    parallel_launch_s: float = 0.0
    core_w: float = 0.0
    vector_efficiency: float = 0.4
    is_shared: bool = False
    ratio_error: float = 0.3
    processors: int = 1
    power: Power | None = None
    array: Array | None = None
    calibration: Calibration | None = None

    def __hash__(self) -> int:
        return hash((self.name, self.cores, self.clock_hz))

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The formats that it has units for, the widest first."""
        return tuple(sorted({u.precision for u in self.units}, key=lambda p: (-p.bits, p)))

    def unit_for(self, precision: Precision, *, dense: bool = True) -> Unit:
        """Return the fastest unit that runs `precision`, as the code generator would choose it.

        Precisions without a unit of their own run on the fp32 unit: that is what is priced.
        `dense` false leaves out matrix units, which only do dense products.
        """
        kinds = ("matrix", "simd", "scalar") if dense else ("simd", "scalar")
        fitting = [u for u in self.units if u.precision is precision and u.kind in kinds]
        if not fitting:
            fitting = [u for u in self.units if u.precision is Precision.FP32 and u.kind in kinds]
        return max(fitting, key=lambda unit: unit.peak_ops_per_s * unit.efficiency)

    def unit_named(self, name: str) -> Unit | None:
        """Return the unit the code generator calls `name`, if the target has it."""
        return next((unit for unit in self.units if unit.name == name), None)
