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
_NATIVE_BF16_BITS = 16


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one unit needs, and how its instructions work.

    Attributes:
        needs: The flags of the instruction sets it uses.
        depth: Products that one step sums per lane.
        product_bits: Register bits that one product takes.
        widest_bits: The most register bits of this kind that are worked through per cycle.
        operand_registers: Registers of one loaded operand: two where pairs are widened.
        widens: Its numbers are widened one by one, in memory or as they are loaded.
        spare_registers: Registers besides accumulators and operands.
        pixels: Pixels that one instruction multiplies.
    """

    name: str
    precision: Precision
    needs: frozenset[str]
    vector_bits: int
    registers: int
    depth: int = 1
    product_bits: int = 32
    widest_bits: int = 1024
    operand_registers: int = 1
    widens: bool = False
    spare_registers: int = 0
    pixels: int = 1


_FP32, _FP16, _BF16, _INT8 = Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8
_AVX2 = frozenset({"avx2", "fma"})
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
_SSE2 = frozenset({"sse2"})
_NEON = frozenset({"asimd"})
_PORTABLE: frozenset[str] = frozenset()

_KINDS = (
    _Kind("generic", _FP32, _PORTABLE, 128, 16, widest_bits=256),
    # Multiplying pairs and adding them are two instructions: no faster than fp32.
    _Kind("sse-int8", _INT8, _SSE2, 128, 16, 2, widest_bits=256, spare_registers=1),
    # Two products per step, but each is an instruction on widened numbers.
    _Kind("generic-bf16", _BF16, _PORTABLE, 128, 16, 2, widest_bits=256, operand_registers=2),
    _Kind("avx2", _FP32, _AVX2, 256, 16, widest_bits=512),
    _Kind("avx2-bf16", _BF16, _AVX2, 256, 16, 2, widest_bits=512, operand_registers=2),
    _Kind("avx2-int8", _INT8, _AVX2, 256, 16, 2, widest_bits=512, spare_registers=1),
    _Kind("avx-vnni", _INT8, _AVX2 | {"avx_vnni"}, 256, 16, 4, 8, widest_bits=512),
    _Kind("avx512", _FP32, _AVX512, 512, 32),
    _Kind("avx2-fp16-widened", _FP16, _AVX2 | {"f16c"}, 256, 16, widest_bits=512, widens=True),
    _Kind("avx512-fp16-widened", _FP16, _AVX512 | {"f16c"}, 512, 32, widens=True),
    _Kind("avx512-bf16", _BF16, _AVX512 | {"avx512_bf16"}, 512, 32, 2, 16),
    _Kind("avx512-vnni", _INT8, _AVX512 | {"avx512_vnni"}, 512, 32, 4, 8),
    _Kind("neon", _FP32, _NEON, 128, 32),
    # Bytes are widened before they are multiplied: no faster than fp32.
    _Kind("neon-int8", _INT8, _NEON, 128, 32),
    _Kind("neon-dotprod", _INT8, _NEON | {"asimddp"}, 128, 32, 4, 8),
    _Kind("neon-i8mm", _INT8, _NEON | {"i8mm"}, 128, 32, 8, 4, pixels=2),
    _Kind("neon-bf16-widened", _BF16, _NEON, 128, 32, 2, operand_registers=2),
    _Kind("neon-fp16-widened", _FP16, _NEON, 128, 32, widens=True),
    _Kind("neon-fp16", _FP16, _NEON | {"asimdfhm"}, 128, 32),
    _Kind("neon-bf16-mmla", _BF16, _NEON | {"bf16"}, 128, 32, 4, 8, pixels=2),
)
_TILES = (("amx-int8", Precision.INT8, "amx_int8"), ("amx-bf16", Precision.BF16, "amx_bf16"))


def units_of(flags: frozenset[str], core: Core, cores: int, clock_hz: float) -> tuple[Unit, ...]:
    """Return the units of a processor with these flags and cores, widest first.

    Where two run equally fast, `Target.unit_for` takes the first: more registers are better.
    """
    device_hz = cores * clock_hz
    op_w = (1 - microarchitectures().default("running_share")) * core.active_w.value * cores
    kinds = [kind for kind in _KINDS if kind.needs <= flags and _fits(kind, flags)]
    vectors = [_vector_unit(kind, core, device_hz, op_w) for kind in kinds]
    tiles = [
        _tile_unit(name, precision, device_hz, op_w)
        for name, precision, need in _TILES
        if {need, "amx_tile"} <= flags
    ]
    return (*tiles, *sorted(vectors, key=lambda unit: -unit.vector_bits))


def _fits(kind: _Kind, flags: frozenset[str]) -> bool:
    """The portable units are for processors without any other."""
    return bool(kind.needs - _SSE2) or not flags & {"avx2", "asimd"}


def _vector_unit(kind: _Kind, core: Core, device_hz: float, op_w: float) -> Unit:
    width = core.bf16_bits if kind.product_bits == _NATIVE_BF16_BITS else core.fma_bits
    peak = 2 * min(width.value, kind.widest_bits) / kind.product_bits * device_hz
    efficiency = core.efficiency.value
    if kind.widens or kind.operand_registers > 1:
        efficiency = min(efficiency, microarchitectures().default("widening_efficiency"))
    loads = core.load_bits.value / kind.vector_bits
    return Unit(
        name=kind.name,
        kind="simd",
        precision=kind.precision,
        peak_ops_per_s=peak,
        efficiency=efficiency,
        op_j=_op_j(op_w, peak),
        registers=kind.registers,
        vector_bits=kind.vector_bits,
        depth=kind.depth,
        loads_per_cycle=min(max(loads, 0.5), 3.0),
        operand_registers=kind.operand_registers,
        spare_registers=kind.spare_registers,
        pixels=kind.pixels,
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
