"""All-int8 accuracy of every quantization preset, beside other tools.

    python -m benchmarks.quantization --data DIR [--model NAME=PATH] [--peer-python [TOOL=]PYTHON]

DIR holds NAME.onnx, NAME.calib.npz and NAME.eval.npz. Our models run as compiled code, those of
others in ONNX Runtime; `--peer-python` has their quantizers. Beside each accuracy stands how many
points it is from that of fp32.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import gcompile
from benchmarks.peers.labelled import (
    PEERS,
    Labelled,
    accuracy_of,
    find_tasks,
    interpreters,
    peer_point,
    task_parser,
)
from benchmarks.timing import machine
from gcompile.errors import GcompileError
from gcompile.passes.precision import Preset

TARGET = 0.003
"""int8 should be no further than this behind the best of the other tools."""


@dataclass(frozen=True)
class Row:
    """One way to quantize one task; without an accuracy, `note` says why."""

    task: str
    way: str
    reference: float
    accuracy: float | None
    seconds: float
    note: str = ""


def main() -> int:
    parser = task_parser(__doc__.splitlines()[0])
    parser.add_argument("--preset", action="append", choices=list(Preset), default=[])
    given = parser.parse_args()
    tasks = find_tasks(given.data, given.model, given.task)
    if not tasks:
        print(f"No labelled tasks in {given.data}: nothing was measured.")
        return 2
    warnings.simplefilter("ignore")
    print(machine())
    rows = [
        row
        for task in tasks
        for row in measure(task, given.preset or list(Preset), interpreters(given.peer_python))
    ]
    print_summary(rows)
    if given.json:
        found = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(found, indent=1))
    return 0


def measure(task: Labelled, presets: Sequence[str], pythons: Mapping[str, str]) -> list[Row]:
    """Every preset and every other tool on one task, printed as they come."""
    reference = accuracy_of(task.model, task.evaluation)
    rows = [_print(_ours(task, preset, reference)) for preset in presets]
    for peer in PEERS:
        start = time.perf_counter()
        point = peer_point(peer, task, pythons)
        seconds = time.perf_counter() - start
        row = Row(task.name, peer, reference, point.accuracy, seconds, point.note)
        rows.append(_print(row))
    return rows


def _ours(task: Labelled, preset: str, reference: float) -> Row:
    start = time.perf_counter()
    try:
        report = gcompile.compile(
            task.model,
            calib=task.calib,
            evaluate=task.evaluation,
            precision="int8",
            quantization=preset,
            cache=False,
        ).report
    except GcompileError as error:
        note = f"failed: {error!s:.120}"
        return Row(task.name, preset, reference, None, time.perf_counter() - start, note)
    assert report.accuracy is not None
    seconds = time.perf_counter() - start
    return Row(task.name, preset, reference, report.accuracy.compiled, seconds)


def _print(row: Row) -> Row:
    if row.accuracy is None:
        result = row.note
    else:
        drop = 100 * (row.accuracy - row.reference)
        result = f"{row.accuracy:.4f} ({drop:+.2f} points)"
    print(f"{row.task:18} {row.way:12} {result}  {row.seconds:.0f} s", flush=True)
    return row


def print_summary(rows: Sequence[Row]) -> None:
    """How far each preset is from the best of the other tools."""
    print()
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        others = [r.accuracy for r in own if r.way in PEERS and r.accuracy is not None]
        if not others:
            print(f"{task:18} no other tool to compare with")
            continue
        for row in own:
            if row.way not in PEERS and row.accuracy is not None:
                behind = max(others) - row.accuracy
                verdict = "meets" if behind <= TARGET + 1e-9 else "misses"
                print(f"{task:18} {row.way:9} {-100 * behind:+.2f} points, {verdict} the target")


if __name__ == "__main__":
    sys.exit(main())
