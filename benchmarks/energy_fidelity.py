"""Hold the energy model against measurements: one table per question.

    python -m benchmarks.energy_fidelity --data FOLDER [--only boards]

Questions whose measurements are published are always asked; the boards' rows are found in --data.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def ask_boards(data: Path) -> str:
    """Boards at the wall, calibrated on one family of networks and asked for another."""
    from benchmarks.fidelity import boards

    return boards.report(data)


def ask_gpus(_: Path) -> str:
    """GPUs at the wall, uncalibrated, and the ratio of two precisions."""
    from benchmarks.fidelity import gpus

    return gpus.report(gpus.rows())


def ask_eyeriss(_: Path) -> str:
    """The published breakdown of an array like Eyeriss."""
    from benchmarks.fidelity import eyeriss

    return eyeriss.report(eyeriss.rows())


def ask_misses(_: Path) -> str:
    """Cache misses of generated kernels, as cachegrind counts them."""
    from benchmarks.fidelity import cache_misses

    if missing := cache_misses.missing_tools():
        return f"Not asked: {missing} is not installed."
    return cache_misses.report(cache_misses.rows())


QUESTIONS = {
    "boards": ask_boards,
    "gpus": ask_gpus,
    "eyeriss": ask_eyeriss,
    "misses": ask_misses,
}
"""Each takes the folder of measurements and returns a table, or says why there is none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder of the measurements.")
    parser.add_argument("--only", choices=QUESTIONS, help="Ask one question.")
    given = parser.parse_args()
    for name, ask in QUESTIONS.items():
        if given.only in (None, name):
            print(f"{ask.__doc__}\n\n{ask(given.data)}\n")


if __name__ == "__main__":
    main()
