"""How much slower the tile that gcompile chooses is than the best one.

    python -m benchmarks.tile_choice [--quick] [--precisions fp32,int8] [--json out.json]

Every shape's kernel is compiled alone, once for each legal tile on one thread: all of them where
there are few, else the model's favourites and a seeded sample of the rest. All are timed in turn;
the quickest are timed again against the choice, because the least of many noisy medians is lower
than any tile is. Regret is the median, over turns side by side, of choice / best - 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("TVM_NUM_THREADS", "1")

import numpy as np
import tvm

from benchmarks.timing import Samples, interleave, machine
from gcompile.backends.tvm.kernels import product
from gcompile.backends.tvm.kernels.packing import pack_weights
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Output,
    PerChannel,
    ProductKernel,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.llvm_target import llvm_target, vector_bits
from gcompile.energy.job import Job
from gcompile.energy.tiling import choose_tile, shapes
from gcompile.ir import Contraction, Precision, Tile
from gcompile.targets import Target, load_target

PRECISIONS = ("fp32", "bf16", "int8")
_FINALISTS = 4
_GOOD, _BAD = 0.05, 0.20


def conv(size: int, inside: int, outside: int, kernel: int, stride: int = 1) -> Contraction:
    """A square convolution with same padding."""
    out, pad = (size - 1) // stride + 1, kernel // 2
    after = max((out - 1) * stride + kernel - size - pad, 0)
    return Contraction(
        *(1, size, size, inside, out, out, outside, kernel, kernel, stride, stride, 1, 1),
        *(pad, pad, after, after),
    )


SHAPES: dict[str, Contraction] = {
    **{
        f"conv {s}x{s} {i}->{o} {k}x{k}/{stride}": conv(s, i, o, k, stride)
        for s, i, o, k, stride in (
            (224, 3, 64, 7, 2), (224, 3, 32, 3, 2), (56, 64, 64, 3, 1), (28, 128, 128, 3, 1),
            (14, 256, 256, 3, 1), (7, 512, 512, 3, 1), (56, 64, 128, 3, 2), (14, 256, 512, 3, 2),
            (56, 64, 256, 1, 1), (56, 256, 64, 1, 1), (28, 512, 128, 1, 1), (14, 1024, 256, 1, 1),
            (7, 2048, 512, 1, 1), (56, 256, 512, 1, 2), (112, 16, 96, 1, 1), (28, 144, 32, 1, 1),
            (14, 96, 576, 1, 1), (7, 160, 960, 1, 1), (32, 16, 16, 3, 1), (8, 64, 64, 3, 1),
        )
    },
    **{
        f"gemm {m}x{k}x{n}": Contraction.matmul(m, k, n)
        for m, k, n in (
            (1, 512, 1000), (1, 4096, 4096), (8, 768, 768), (128, 768, 768), (128, 768, 3072),
            (128, 3072, 768), (197, 192, 576), (150, 256, 1024), (512, 512, 512), (64, 100, 40),
        )
    },
}  # fmt: skip
"""Layers of the networks in the suite, first layers and odd sizes among them."""


@dataclass(frozen=True)
class Regret:
    """One shape: the tile that was chosen and the best of those measured."""

    shape: str
    precision: str
    chosen: str
    best: str
    chosen_us: float
    best_us: float
    regret: float
    measured: int
    legal: int


def main() -> None:
    arguments = _parse()
    target = load_target("cpu")
    print(f"{machine()}, load average {os.getloadavg()[0]:.1f}")
    names = list(SHAPES)[:: 5 if arguments.quick else 1]
    found: list[Regret] = []
    for precision in arguments.precisions:
        for name in names:
            regret = measure(name, precision, target, arguments.candidates, arguments.rounds)
            found.append(regret)
            print(_line(regret), flush=True)
            if arguments.json:
                rows = [asdict(r) for r in found]
                arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}) + "\n")
    print_summary(found)


def measure(name: str, precision: str, target: Target, limit: int, rounds: int) -> Regret:
    """Time the tiles of one shape."""
    sizes = SHAPES[name]
    chosen = choose_tile(job_of(sizes, precision), target, 1, _footprint(sizes, precision))
    legal = list(candidates(sizes, precision, target))
    tiles = [chosen, *sample([tile for tile in legal if tile != chosen], limit)]
    calls = compile_all(sizes, tiles, target)
    first = _time(calls, rounds)
    finalists = sorted(tiles, key=lambda tile: first[tile].cpu_median_s)[:_FINALISTS]
    again = _time({tile: calls[tile] for tile in dict.fromkeys([chosen, *finalists])}, 4 * rounds)
    best = min(again, key=lambda tile: again[tile].cpu_median_s)
    # Turns of one round lie side by side: their ratio is steady where the machine is not.
    turns = zip(again[chosen].cpu_s, again[best].cpu_s, strict=True)
    return Regret(
        shape=name,
        precision=precision,
        chosen=_text(chosen),
        best=_text(best),
        chosen_us=again[chosen].cpu_median_s * 1e6,
        best_us=again[best].cpu_median_s * 1e6,
        regret=max(0.0, statistics.median(ours / theirs for ours, theirs in turns) - 1),
        measured=len(tiles),
        legal=len(legal),
    )


def job_of(sizes: Contraction, precision: str) -> Job:
    """The kernel as the energy model sees it: image in, image out, a bias per channel."""
    element = Precision(precision).bits // 8
    return Job(
        precision=Precision(precision),
        contraction=sizes,
        product_ops=2 * sizes.macs,
        vector_ops=sizes.m * sizes.n,
        image_bytes=sizes.batch * sizes.in_h * sizes.in_w * sizes.in_c * element,
        activation_bytes=(sizes.m * sizes.n * element,),
        constant_bytes=8 * sizes.n,
    )


def _footprint(sizes: Contraction, precision: str) -> float:
    """The kernel runs again and again: its own operands are all that caches see."""
    return float(job_of(sizes, precision).alone_bytes)


def candidates(sizes: Contraction, precision: str, target: Target) -> Iterator[Tile]:
    """Yield every tile that could be chosen for one thread."""
    unit = target.unit_for(Precision(precision))
    for tile in shapes(sizes, unit):
        for outer in ("m", "n"):
            yield replace(tile, outer=outer)


def sample(tiles: Sequence[Tile], limit: int) -> list[Tile]:
    """Return all tiles, or a seeded sample that leans to large register blocks.

    Small blocks are bound by loads and never best, so most of the sample is drawn among those with
    at least half of the largest number of sums.
    """
    if len(tiles) <= limit:
        return list(tiles)
    rng = np.random.default_rng(0)
    most = max(tile.rows * tile.columns for tile in tiles)
    large = [tile for tile in tiles if 2 * tile.rows * tile.columns >= most]
    small = [tile for tile in tiles if 2 * tile.rows * tile.columns < most]
    count = min(len(large), max(limit * 3 // 4, limit - len(small)))
    picked = [large[i] for i in rng.permutation(len(large))[:count]]
    return picked + [small[i] for i in rng.permutation(len(small))[: limit - count]]


def compile_all(
    sizes: Contraction, tiles: Sequence[Tile], target: Target
) -> dict[Tile, Callable[[], object]]:
    """Compile one kernel for each tile, all in one module, and bind their operands."""
    kernels = {tile: kernel_of(sizes, tile, target) for tile in tiles}
    functions = {
        f"kernel_{i}": product.emit(kernels[t], f"kernel_{i}") for i, t in enumerate(tiles)
    }
    compiled = tvm.compile(tvm.IRModule(functions), target=llvm_target(target, 1))
    operands = [tvm.runtime.tensor(array) for array in random_operands(kernels[tiles[0]])]

    def call(name: str) -> Callable[[], object]:
        function = compiled[name]
        return lambda: function(*operands)

    return {tile: call(name) for tile, name in zip(tiles, functions, strict=True)}


def kernel_of(sizes: Contraction, tile: Tile, target: Target) -> ProductKernel:
    """The kernel as the lowering writes it: scale and bias, output in the input's type."""
    unit = unit_named(tile.unit)
    emitted = sizes.widened(unit.group)
    channels = emitted.in_c
    if emitted.in_c > 4 or unit.group == 1:
        channels = -(-emitted.in_c // unit.group) * unit.group
    reach = (emitted.out_w - 1) * emitted.stride_w + emitted.kernel_w
    right = max(reach - emitted.in_w - emitted.pad_left, 0)
    halo = (emitted.pad_top, emitted.pad_left, emitted.pad_bottom, right)
    image = Image(1, emitted.in_h, emitted.in_w, channels, unit.x_dtype, halo)
    written = Image(1, emitted.out_h, emitted.out_w, emitted.out_c, unit.x_dtype)
    scaled = Binary("mul", Accumulator(), PerChannel(0))
    return ProductKernel(
        output=Output(written, 0.05, 128) if unit.x_dtype == "uint8" else Output(written),
        expression=Binary("add", scaled, PerChannel(1)),
        channel_vectors=2,
        vector_bits=vector_bits(target),
        contraction=replace(emitted, in_c=channels),
        x=image,
        tile=tile,
    )


def random_operands(kernel: ProductKernel) -> list[np.ndarray]:
    """Operands in the order of the kernel's arguments; the output is the last."""
    rng, sizes = np.random.default_rng(0), kernel.contraction
    shape = (sizes.out_c, kernel.x.channels, sizes.kernel_h, sizes.kernel_w)
    stored = {"float32": np.float32, "uint16": np.uint16, "uint8": np.int8}
    weights = rng.integers(0, 100, shape).astype(stored[kernel.x.storage_dtype])
    x = rng.integers(0, 100, kernel.x.tensor_shape).astype(kernel.x.storage_dtype)
    vectors = [rng.standard_normal(sizes.out_c).astype(np.float32) for _ in range(2)]
    output = np.zeros(kernel.output.image.tensor_shape, kernel.output.image.storage_dtype)
    return [x, pack_weights(kernel, weights), *vectors, output]


def _time(calls: dict[Tile, Callable[[], object]], rounds: int) -> dict[Tile, Samples]:
    named = {str(index): call for index, call in enumerate(calls.values())}
    samples = interleave(named, rounds, slice_s=0.002)
    return dict(zip(calls, samples.values(), strict=True))


def print_summary(found: Sequence[Regret]) -> None:
    """Median and worst, for each precision and in all, beside what is allowed."""
    print()
    for precision in [*dict.fromkeys(r.precision for r in found), "all"]:
        regrets = [r.regret for r in found if precision in (r.precision, "all")]
        middle, worst = statistics.median(regrets), max(regrets)
        print(
            f"{precision:5} {len(regrets):3} shapes  median {middle:6.1%} (at most {_GOOD:.0%})"
            f"  worst {worst:6.1%} (at most {_BAD:.0%})"
        )


def _line(row: Regret) -> str:
    return (
        f"{row.precision} {row.shape:28} chosen {row.chosen:14}{row.chosen_us:9.1f} us"
        f"  best {row.best:14}{row.best_us:9.1f} us  regret {row.regret:6.1%}"
        f"  ({row.measured} of {row.legal} tiles)"
    )


def _text(tile: Tile) -> str:
    return f"{tile.rows}x{tile.columns}{' flat' if tile.flat else ''} {tile.outer}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every fifth shape")
    parser.add_argument("--precisions", type=lambda t: t.split(","), default=list(PRECISIONS))
    parser.add_argument("--candidates", type=int, default=40, help="most tiles of one shape")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    unknown = set(arguments.precisions) - set(PRECISIONS)
    if unknown:
        parser.error(f"Unknown precision {unknown.pop()!r}. Known: {', '.join(PRECISIONS)}.")
    return arguments


if __name__ == "__main__":
    main()
