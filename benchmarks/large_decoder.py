r"""A decoder of seven billion parameters, quantized and compiled layer by layer.

    python -m benchmarks.large_decoder [--layers 32] [--bits 4] [--block 128] [--scales largest] \
        [--prefill 16] [--output FOLDER] [--tokens 8] [--checked 2]

Weights are random and made when their layer is reached: never more than one layer is in memory.
Each layer is an entry point of one artefact; all share one library per step, and the packed
weights of prefill and decode lie there once. Each entry point is verified against ONNX Runtime
running the same quantized graph; after that, `--checked` layers are run again on random states and
compared with float64, and tokens go through all layers in turn. Joules are those of the report.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

import gcompile
from benchmarks.decoder_layers import Array, Shape, drawn, embedding, head, layer, reference
from benchmarks.timing import machine
from gcompile import ir
from gcompile.passes.precision.quantize_weights import Scales
from gcompile.report import Report
from gcompile.runtime import Session

_TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--ffn", type=int, default=11008)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--scales", choices=list(Scales), default="best")
    parser.add_argument("--prefill", type=int, default=16, help="0 for decode alone")
    parser.add_argument("--tokens", type=int, default=8, help="timed, of each step")
    parser.add_argument("--checked", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    shape = Shape(
        given.hidden, given.ffn, given.heads, given.layers, given.vocabulary, given.length,
        given.bits, given.block, Scales(given.scales),
    )  # fmt: skip
    weights = _Weights(shape)
    steps = {"prefill": given.prefill, "decode": 1} if given.prefill else {"decode": 1}
    print(machine())
    print(
        f"{shape.parameters / 1e9:.2f} billion parameters, {shape.bits} bits, blocks of "
        f"{shape.block}, {shape.scales} scales"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.output or Path(temporary) / "decoder"
        reports = _compile(shape, steps, weights, folder, given.threads)
        session = Session.load(folder, threads=given.threads)
        _say(f"loaded {(folder / 'weights.bin').stat().st_size / 1e9:.2f} GB of weights")
        for index in sorted({shape.layers - 1, *range(given.checked - 1)}):
            _check(session, shape, steps, index, weights)
        for step, tokens in steps.items():
            _run(session, shape, step, tokens, given.tokens, reports)


class _Weights:
    """The quantized weights of what was asked for last: prefill and decode need the same."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.index: int | None = None
        self.found: dict[str, Array] = {}
        self.seconds = 0.0

    def of(self, index: int) -> dict[str, Array]:
        """Those of a layer, or of the head."""
        if index != self.index:
            start = time.perf_counter()
            self.found.clear()
            is_head = index == self.shape.layers
            last = {"w": (self.shape.hidden, self.shape.vocabulary)}
            self.found = drawn(self.shape, last if is_head else self.shape.layer_weights, index)
            self.index = index
            self.seconds += time.perf_counter() - start
        return self.found


def _compile(
    shape: Shape, steps: dict[str, int], weights: _Weights, folder: Path, threads: int
) -> dict[str, Report]:
    def made(tokens: int, index: int) -> ir.Model:
        if index == shape.layers:
            return head(shape, tokens, weights.of(index))
        return layer(shape, tokens, index, weights.of(index))

    entries: dict[str, gcompile.Entry] = {}
    for step, tokens in steps.items():
        entries[f"{step}.embed"] = gcompile.Entry(partial(embedding, shape, tokens), tokens=tokens)
    for index in range(shape.layers + 1):
        name = f"layer{index:02}" if index < shape.layers else "head"
        for step, tokens in steps.items():
            entries[f"{step}.{name}"] = gcompile.Entry(partial(made, tokens, index), tokens=tokens)
    start, cpu = time.perf_counter(), time.process_time()
    built = gcompile.compile_entries(
        entries, output=folder, with_models=False, threads=threads, passes="canonicalize",
        progress=_Told(),
    )  # fmt: skip
    _say(
        f"{len(entries)} entry points: {weights.seconds:.0f} s to draw and quantize, "
        f"{time.perf_counter() - start - weights.seconds:.0f} s to compile and verify, "
        f"{time.process_time() - cpu:.0f} s of CPU in all"
    )
    return dict(built.reports)


class _Told:
    """One line for each entry point."""

    def __init__(self) -> None:
        self.name = ""

    def __call__(self, what: str, fraction: float) -> None:
        name = what.partition(":")[0]
        if name != self.name:
            self.name = name
            _say(name)


def _check(
    session: Session, shape: Shape, steps: dict[str, int], index: int, weights: _Weights
) -> None:
    """Run every step of a layer after each other on random inputs, and compare with float64."""
    rng, position = np.random.default_rng(index), 0
    past = {kind: np.zeros((1, shape.heads, 0, shape.size)) for kind in ("key", "value")}
    for step, tokens in steps.items():
        hidden = rng.standard_normal((1, tokens, shape.hidden)).astype(np.float32)
        inputs = {"hidden": hidden, "position": np.array([position])}
        found = session.run(f"{step}.layer{index:02}", inputs)["after"]
        expected = reference(shape, index, weights.of(index), hidden, past, position)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        _say(f"layer {index}, {step}: largest error {error:.1e} of the largest output")
        if not error < _TOLERANCE:
            raise SystemExit("The compiled layer is wrong.")
        position += tokens
        state = session.state()
        past = {kind: state[f"past_{index}_{kind}"][:, :, :position] for kind in past}


def _run(
    session: Session, shape: Shape, step: str, tokens: int, count: int,
    reports: dict[str, Report],
) -> None:  # fmt: skip
    """Send tokens through all layers, and say what each takes."""
    names = [name for name in reports if name.startswith(f"{step}.")]
    rng, times, cpu = np.random.default_rng(0), [], []
    session.reset()
    for turn in range(min(count, shape.length // tokens)):
        ids = rng.integers(0, shape.vocabulary, (1, tokens))
        position = {"position": np.array([turn * tokens])}
        start, cpu_start = time.perf_counter(), time.process_time()
        value = session.run(names[0], {"input_ids": ids})["hidden"]
        for name in names[1:-1]:
            value = session.run(name, {"hidden": value} | position)["after"]
        logits = session.run(names[-1], {"hidden": value})["logits"]
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
        if not np.isfinite(logits).all():
            raise SystemExit("The logits are not finite.")
    energy = [reports[name].energy.after for name in names]
    predicted, low, high = (
        sum(getattr(e, key) for e in energy) / tokens for key in ("energy_j", "low_j", "high_j")
    )
    _say(
        f"{step}: {statistics.median(times) / tokens:.4f} s per token "
        f"(CPU {statistics.median(cpu) / tokens:.4f} s, predicted "
        f"{sum(e.time_s for e in energy) / tokens:.4f} s), {predicted:.3g} J per token estimated "
        f"({low:.3g} to {high:.3g} J, {energy[0].boundary} boundary)"
    )


def _say(text: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{text}   [peak {peak / 1e9:.2f} GB resident]", flush=True)


if __name__ == "__main__":
    main()
