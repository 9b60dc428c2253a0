"""Models that nobody here has tuned for: what builds, how closely it agrees, how fast it is.

    python -m benchmarks.found_models --data DIR [--precision fp32] [--json out.json]

DIR holds NAME.onnx, wherever they come from, and `inputs.toml` for what they leave open:

    [NAME]
    shapes = {x = [1, 3, 48, 320]}
    freeze = {rate = "16000"}

Every model is built without a budget, held against ONNX Runtime running the file as it is on
seeded inputs, and timed in turn with it: CPU time of one thread, medians. A model that is refused
is a row with the sentence. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import gcompile
from benchmarks.timing import interleave, machine
from gcompile import ir
from gcompile.backends.verify import seeded_inputs
from gcompile.errors import GcompileError

_ROUNDS = 9


@dataclass(frozen=True)
class Row:
    """One model; where it was refused only the reason.

    Attributes:
        error: Largest difference from ONNX Runtime, as a share of the output's range.
        ours_ms: CPU time of an inference.
        generic: Layers without a kernel of ours.
    """

    model: str
    reason: str = ""
    error: float = math.nan
    ours_ms: float = math.nan
    onnxruntime_ms: float = math.nan
    generic: int = 0

    @property
    def ratio(self) -> float:
        """How many times less CPU time than ONNX Runtime."""
        return self.onnxruntime_ms / self.ours_ms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    files = sorted(arguments.data.glob("*.onnx"))
    if not files:
        print(f"No models in {arguments.data}: nothing was measured.")
        return 2
    warnings.simplefilter("ignore")
    print(f"{machine()}; {arguments.precision}, one thread\n")
    settings = arguments.data / "inputs.toml"
    given = tomllib.loads(settings.read_text()) if settings.is_file() else {}
    rows = [show(measure(file, given.get(file.stem, {}), arguments.precision)) for file in files]
    print_summary(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    return 0


def measure(file: Path, given: Mapping[str, Any], precision: str) -> Row:
    """Build, compare and time one model."""
    try:
        model = ir.read_file(file)
        ir.freeze_inputs(model, given.get("freeze", {}))
        shapes = {name: tuple(sizes) for name, sizes in given.get("shapes", {}).items()}
        with tempfile.TemporaryDirectory() as folder:
            built = gcompile.compile(model, precision=precision, shapes=shapes, output=folder)
            runner = gcompile.runtime.load(folder)
            inputs = seeded_inputs(ir.prepare(model, shapes), seed=0)
            generic = len(built.report.fallbacks)
            return compare(file, runner, inputs, given.get("freeze", {}), generic)
    except GcompileError as error:
        return Row(file.stem, str(error))


def compare(
    file: Path,
    runner: gcompile.runtime.Runner,
    inputs: dict[str, ir.Array],
    frozen: Mapping[str, str],
    generic: int,
) -> Row:
    """Hold the code against ONNX Runtime and time both in turn."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    full = inputs | {name: _constant(session, name, text) for name, text in frozen.items()}
    calls = {
        "gcompile": partial(runner.run, inputs),
        "ONNX Runtime": partial(session.run, None, full),
    }
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(None, full), strict=True))
    found = runner.run(inputs)
    error = max(_difference(found[name], want) for name, want in wanted.items())
    ours, theirs = interleave(calls, _ROUNDS).values()
    return Row(file.stem, "", error, ours.cpu_median_s * 1e3, theirs.cpu_median_s * 1e3, generic)


def _constant(session: onnxruntime.InferenceSession, name: str, text: str) -> ir.Array:
    (kind,) = (value.type for value in session.get_inputs() if value.name == name)
    return np.array(float(text)).astype(np.int64 if "int64" in kind else np.float32)


def _difference(found: ir.Array, want: ir.Array) -> float:
    got, wanted = found.astype(np.float64), want.astype(np.float64)
    is_same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    difference = np.where(is_same, 0.0, np.abs(got - wanted))
    extent = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
    return float(difference.max(initial=0.0) / (extent or 1.0))


def show(row: Row) -> Row:
    """Print a row as soon as it is known."""
    if row.reason:
        print(f"{row.model[:44]:44} {row.reason}", flush=True)
    else:
        times = f"{row.ours_ms:9.3f} ms {row.onnxruntime_ms:9.3f} ms {row.ratio:6.2f}"
        print(f"{row.model[:44]:44} {times}  error {row.error:.1e}  {row.generic}", flush=True)
    return row


def print_summary(rows: list[Row]) -> None:
    """How many were built, and the ratios."""
    ratios = sorted(row.ratio for row in rows if not row.reason)
    print(f"\n{len(ratios)} of {len(rows)} built")
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        middle = ratios[len(ratios) // 2]
        print(f"ONNX Runtime / gcompile: {mean:.2f} in the mean, median {middle:.2f}, "
              f"least {ratios[0]:.2f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
