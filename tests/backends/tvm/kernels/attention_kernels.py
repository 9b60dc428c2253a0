"""Attention of random sizes and layouts, its operands as matrices, and its scores under masks."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import attention
from gcompile.backends.tvm.kernels.attention import AttentionKernel, block_steps
from gcompile.backends.tvm.kernels.attention_rows import Mask
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.energy.attention import attention_block
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.arm import FEATURES, emulated_instructions
from tests.backends.tvm.kernels.compiling import Array, inside, run
from tests.backends.tvm.kernels.emulation import emulate, load_emulation
from tests.backends.tvm.kernels.machine import machine_for, skip_unless_runnable


@st.composite
def kernels(draw: st.DrawFn, unit: str) -> AttentionKernel:
    """Small attention of every layout, with masks of every shape or none."""
    batch, key_heads, per_key = (draw(st.integers(1, 2)) for _ in range(3))
    depth, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    queries, keys = draw(st.integers(1, 70)), draw(st.integers(1, 90))
    causal = draw(st.booleans())
    if causal:
        keys = max(queries, keys)
    carrier, heads = unit_named(unit), key_heads * per_key

    def matrices(rows: int, width: int, count: int) -> Matrices:
        in_channels, first = draw(st.booleans()), draw(st.integers(0, 2))
        channels = first + (count * width if in_channels else width) + draw(st.integers(0, 1))
        image = Image(batch, 1 if in_channels else count, rows, channels, carrier.x_dtype)
        return Matrices.in_image(image, width, count, in_channels=in_channels, first_channel=first)

    written = Matrices.in_image(Image(batch, heads, queries, columns), columns, heads)
    if draw(st.booleans()):
        image = Image(batch, 1, queries, heads * columns, carrier.x_dtype)
        written = Matrices.in_image(image, columns, heads, in_channels=True)
    one = st.booleans()
    sources, masks = [], []
    for hidden in () if causal else draw(st.sampled_from([(), (None,), (-3.0, None)])):
        shape = (batch if draw(one) else 1, heads if draw(one) else 1,
                 queries if draw(one) else 1, keys)  # fmt: skip
        dtype = (
            "uint8"
            if hidden is not None
            else draw(st.sampled_from(["float32", "bfloat16", "float16"]))
        )
        sources.append(Source(Image(*shape, dtype)))
        masks.append(Mask(hidden, draw(one)))
    sizes = st.tuples(st.integers(1, 3), st.integers(1, 2))
    if carrier.is_tiled:
        sizes = st.sampled_from([(2, 2), (4, 1), (1, 4), (1, 1)])
    tile = Tile(unit, *draw(sizes), outer="n", threads=draw(st.integers(1, 3)))
    rows, step = block_steps(tile, carrier)
    block = attention_block(queries, keys, rows, step)
    if draw(one):  # Several blocks of both, whatever the sizes are.
        high = min(rows, queries)
        block = (high * max(1, min(9, queries) // high), step)
    return AttentionKernel(
        Output(written.image),
        Accumulator(),
        tuple(sources),
        vector_bits=carrier.vector_bits,
        queries=matrices(queries, depth, heads),
        keys=matrices(keys, depth, key_heads),
        values=matrices(keys, columns, key_heads),
        written=written,
        scale=draw(st.sampled_from([1.0, 0.3])),
        masks=tuple(masks),
        causal=causal,
        tile=tile,
        block=block,
    )


def _numbers(stored: Array, image: Image) -> Array:
    bits = stored.view(ml_dtypes.bfloat16) if image.dtype == "bfloat16" else stored
    return bits.astype(np.float64)


def heads_of(matrices: Matrices, stored: Array) -> Array:
    """The matrices as numbers: (batch, heads, rows, columns)."""
    line = _numbers(stored, matrices.image).reshape(-1)
    places = [np.arange(n) for n in (matrices.batch, matrices.heads, matrices.rows)]
    starts = sum(
        step * place for step, place in zip(matrices.strides, np.ix_(*places), strict=True)
    )
    index = np.asarray(starts)[..., None] + np.arange(matrices.columns) + matrices.offset
    found: Array = line[index]
    return found


def masked(kernel: AttentionKernel, scores: Array, sources: list[Array]) -> Array:
    """Scores (batch, heads, queries, keys) as the kernel's masks leave them."""
    for mask, source, stored in zip(kernel.masks, kernel.sources, sources, strict=True):
        number = _numbers(stored, source.image)
        if mask.hidden is None:
            scores = scores + number
        else:
            scores = np.where((number != 0) == mask.where, mask.hidden, scores)
    if kernel.causal:
        queries, keys = scores.shape[2:]
        ahead = np.arange(keys) > np.arange(queries)[:, None] + keys - queries
        scores = np.where(ahead, -np.inf, scores)
    return scores


def run_attention(kernel: AttentionKernel, inputs: list[Array]) -> Array:
    """Compile and call; results are (batch, heads, queries, columns)."""
    unit = unit_named(kernel.tile.unit)
    if unit.is_tiled:
        faults = load_emulation()
        before = faults()
        machine: tuple[()] | tuple[str | None, tuple[str, ...]] = ()
        if unit.name == "amx-int8":  # Column sums need the vectors of machines with AMX.
            skip_unless_runnable("avx512-vnni")
            machine = machine_for("avx512-vnni")
        function = attention.emit(kernel, "attention", emulate)
        stored = run(function, inputs, kernel.output, *machine)
        assert faults() == before
    elif unit.name in FEATURES:
        with emulated_instructions():
            function = attention.emit(kernel, "attention")
        stored = run(function, inputs, kernel.output)
    else:
        skip_unless_runnable(unit.name)
        function = attention.emit(kernel, "attention")
        stored = run(function, inputs, kernel.output, *machine_for(unit.name))
    numbers = inside(kernel.output.image, stored)
    return heads_of(kernel.written, numbers.view(stored.dtype))
