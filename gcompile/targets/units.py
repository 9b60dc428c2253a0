"""The execution units that instruction-set flags and the width of the pipes give a processor.

Peaks follow from widths: a multiply-add instruction on `bits` of registers does bits / 32 products
of fp32 or bits / 8 of int8, and each product counts as two operations. An AMX instruction
multiplies tiles of 16×64 and 64×16 bytes in 16 cycles: 1,024 int8 or 512 bf16 products per cycle.

The anchor of energy: code at 0.8 of the peak draws the active power of the core. A share of it is
drawn by running at all (`Target.core_w`); the rest is spread over the operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.ir import Precision
from gcompile.targets.microarchitecture import Core, microarchitectures
from gcompile.targets.target import Unit

_AMX_OPS_PER_CYCLE = {Precision.INT8: 2048, Precision.BF16: 1024}
_AMX_TILE_BITS = 16 * 64 * 8


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one unit needs, and how its instructions work.

    Attributes:
        widest_bits: The most register bits of this kind that are worked through per cycle.
        depth: Products that one instruction sums per lane.
        product_bits: Register bits that one product takes.
    """

    name: str
    precision: Precision
    needs: frozenset[str]
    vector_bits: int
    registers: int
    widest_bits: int
    depth: int = 1
    product_bits: int = 32


def _vector(
    name: str, precision: Precision, needs: str, bits: int, registers: int, depth: int = 1
) -> _Kind:
    product_bits = 32 if name == "avx2-int8" else 32 // depth
    widest = 1024 if bits == 512 or name.startswith("neon") else 512
    return _Kind(
        name, precision, frozenset(needs.split()), bits, registers, widest, depth, product_bits
    )


_KINDS = (
    _vector("generic", Precision.FP32, "", 128, 16),
    _vector("avx2", Precision.FP32, "avx2 fma", 256, 16),
    _vector("avx2-bf16", Precision.BF16, "avx2 fma", 256, 16),
    # The 16-bit pairs must be packed first, which costs what the double width gains.
    _vector("avx2-int8", Precision.INT8, "avx2", 256, 16, depth=2),
    _vector("avx-vnni", Precision.INT8, "avx2 avx_vnni", 256, 16, depth=4),
    _vector("avx512", Precision.FP32, "avx512f avx512bw avx512vl", 512, 32),
    _vector("avx512-bf16", Precision.BF16, "avx512f avx512bw avx512vl", 512, 32),
    _vector("avx512-vnni", Precision.INT8, "avx512f avx512bw avx512_vnni", 512, 32, depth=4),
    _vector("neon", Precision.FP32, "asimd", 128, 32),
    _vector("neon-dotprod", Precision.INT8, "asimd asimddp", 128, 32, depth=4),
)
_TILES = (("amx-int8", Precision.INT8, "amx_int8"), ("amx-bf16", Precision.BF16, "amx_bf16"))


def units_of(flags: frozenset[str], core: Core, cores: int, clock_hz: float) -> tuple[Unit, ...]:
    """Return the units of a processor with these flags and cores."""
    device_hz = cores * clock_hz
    op_w = (1 - microarchitectures().default("running_share")) * core.active_w.value * cores
    kinds = [kind for kind in _KINDS if kind.needs <= flags and _fits(kind, flags)]
    units = [_vector_unit(kind, core, device_hz, op_w) for kind in kinds]
    for name, precision, need in _TILES:
        if {need, "amx_tile"} <= flags:
            units.append(_tile_unit(name, precision, device_hz, op_w))
    return tuple(units)


def _fits(kind: _Kind, flags: frozenset[str]) -> bool:
    """The portable unit is for processors without any other."""
    return kind.name != "generic" or not flags & {"avx2", "asimd"}


def _vector_unit(kind: _Kind, core: Core, device_hz: float, op_w: float) -> Unit:
    bits = min(int(core.fma_bits.value), kind.widest_bits)
    bits = max(bits, kind.vector_bits // 2) if kind.name != "generic" else 128
    peak = 2 * bits / kind.product_bits * device_hz
    loads = core.load_bits.value / kind.vector_bits
    efficiency = "widening_efficiency" if kind.precision is Precision.BF16 else "efficiency"
    return Unit(
        name=kind.name,
        kind="simd",
        precision=kind.precision,
        peak_ops_per_s=peak,
        efficiency=microarchitectures().default(efficiency),
        op_j=_op_j(op_w, peak),
        registers=kind.registers,
        vector_bits=kind.vector_bits,
        depth=kind.depth,
        loads_per_cycle=min(max(loads, 0.5), 3.0),
    )


def _tile_unit(name: str, precision: Precision, device_hz: float, op_w: float) -> Unit:
    peak = _AMX_OPS_PER_CYCLE[precision] * device_hz
    return Unit(
        name=name,
        kind="matrix",
        precision=precision,
        peak_ops_per_s=peak,
        efficiency=microarchitectures().default("tile_efficiency"),
        op_j=_op_j(op_w, peak),
        registers=8,
        vector_bits=_AMX_TILE_BITS,
        depth=32 // precision.bits,
        loads_per_cycle=1 / 8,
        latency_cycles=52.0,
    )


def _op_j(op_w: float, peak_ops_per_s: float) -> float:
    return op_w / (microarchitectures().default("anchor_efficiency") * peak_ops_per_s)
