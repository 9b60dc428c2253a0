"""Hold the energy model against measurements: one table per question.

python -m benchmarks.energy_fidelity --data ../shared/data/energy [--only boards]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.fidelity import boards

QUESTIONS = {"boards": boards.report}
"""Each takes the folder of measurements and returns a table, or says why there is none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder of the measurements.")
    parser.add_argument("--only", choices=QUESTIONS, help="Ask one question.")
    given = parser.parse_args()
    for name, report in QUESTIONS.items():
        if given.only in (None, name):
            print(report(given.data), end="\n\n")


if __name__ == "__main__":
    main()
