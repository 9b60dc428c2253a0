"""gcompile beside ONNX Runtime, OpenVINO, torch.compile and untuned TVM on this CPU.

    python -m benchmarks.peers_cpu [--quick] [--models resnet18,bert-base-128] [--json out.json]

All contenders of one model, precision and number of threads are timed in turn, each in a process
of its own; figures are medians per inference. Weights of generated networks are random and
calibration rows are seeded noise: speed does not depend on either, accuracy is not asked here.
What a contender cannot do is a row with the reason. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path

from benchmarks.peers.contenders import CONTENDERS, Entry
from benchmarks.peers.peak import measured_peaks
from benchmarks.peers.race import Limits, Timed, race
from benchmarks.peers.results import (
    Case,
    Row,
    plot,
    print_case,
    print_summary,
    read_json,
    write_json,
)
from benchmarks.peers.workload import Workload, is_layer, names, prepare
from benchmarks.timing import machine

PRECISIONS = ("fp32", "bf16", "int8")
QUICK_MODELS = ("resnet18", "mobilenet-v2", "vit-tiny", "gemm-128-768-768", "conv-28-128-128-3-1")
_QUICK = Limits(rounds=5, total_s=5.0)


def main() -> None:
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # Children end with it.
    limits = _QUICK if arguments.quick else Limits(rounds=arguments.rounds)
    cases = read_json(arguments.json) if arguments.resume else []
    done = {case.key for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        peaks = measured_peaks(Path(folder))
        print(machine())
        print("peak of one core: " + _peak_text(peaks))
        for case in measure(arguments, limits, peaks, Path(folder), done):
            cases.append(case)
            print_case(case)
            if arguments.json:  # After each case: a long run that is stopped keeps its rows.
                write_json(arguments.json, {"machine": machine(), "peaks": peaks}, cases)
    print(f"\n{machine()}, load average {os.getloadavg()[0]:.1f}")
    print_summary(cases)
    if arguments.plot:
        print(plot(arguments.plot, machine(), cases))


def measure(
    arguments: argparse.Namespace,
    limits: Limits,
    peaks: dict[str, float],
    folder: Path,
    done: Set[tuple[str, str, int]],
) -> Iterator[Case]:
    """Yield the results that are not there yet, model by model."""
    for name in arguments.models:
        kinds = list(itertools.product(arguments.precisions, arguments.threads))
        if all((name, *kind) in done for kind in kinds):
            continue
        try:
            workload = prepare(name, arguments.data, folder)
        except Exception as error:  # A model that cannot be read costs one line.
            print(f"\n{name} is left out: {type(error).__name__}: {error}"[:300])
            continue
        for precision, threads in kinds:
            if (name, precision, threads) in done:
                continue
            entries = {
                contender: Entry(contender, workload, precision, threads)
                for contender in arguments.contenders
            }
            timed = race(entries, threads, limits)
            peak = peaks.get(precision, 0.0)
            yield Case(tuple(_row(entries[c], timed[c], peak) for c in entries))
        for file in folder.glob(f"{name}.*"):
            file.unlink()


def _row(entry: Entry, timed: Timed, peak: float) -> Row:
    workload: Workload = entry.workload
    names_of_row = (workload.name, entry.precision, entry.threads, entry.contender)
    if timed.samples is None:
        return Row(*names_of_row, reason=timed.reason)
    cpu_s = timed.samples.cpu_median_s
    return Row(
        *names_of_row,
        cpu_ms=cpu_s * 1e3,
        wall_ms=timed.samples.wall_median_s * 1e3,
        build_s=timed.build_s,
        peak_share=workload.operations / cpu_s / peak if peak else 0.0,
    )


def _peak_text(peaks: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate / 1e9:.0f} Gop/s" for name, rate in peaks.items()) or "unknown"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="five models, five rounds")
    parser.add_argument("--models", type=_words, help="names, separated by commas, or layers")
    parser.add_argument("--precisions", type=_words, default=list(PRECISIONS))
    parser.add_argument("--threads", type=lambda text: [int(n) for n in _words(text)])
    parser.add_argument("--contenders", type=_words, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=Limits.rounds)
    parser.add_argument("--data", type=Path, help="a folder of NAME.onnx and NAME.calib.npz")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--resume", action="store_true", help="keep what the JSON file has")
    parser.add_argument("--plot", type=Path, help="a PNG; needs matplotlib")
    arguments = parser.parse_args()
    arguments.threads = arguments.threads or ([1] if arguments.quick else [1, 2])
    if arguments.resume and not arguments.json:
        parser.error("--resume needs --json FILE.")
    known = names(arguments.data)
    arguments.models = arguments.models or (list(QUICK_MODELS) if arguments.quick else known)
    _check(parser, "model", [m for m in arguments.models if not is_layer(m)], known)
    _check(parser, "precision", arguments.precisions, list(PRECISIONS))
    _check(parser, "contender", arguments.contenders, list(CONTENDERS))
    return arguments


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _check(
    parser: argparse.ArgumentParser, kind: str, wanted: list[str], known: list[str]
) -> None:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"Unknown {kind} {unknown[0]!r}. Known: {', '.join(known)}.")


if __name__ == "__main__":
    main()
