"""ONNX's own test suite: gcompile beside ONNX Runtime and ONNX's reference, in the same run.

    python -m benchmarks.onnx_conformance [--include softmax] [--jobs 2] [--limit 60] [--every 10]

Every test with data that comes with the installed `onnx` is run; those that would be downloaded
are not. Each is tried in a worker process that is ended when a test takes too long or takes the
worker down, and counts as

    pass      the outputs agree within the test's own tolerances
    bound     the same, after inputs that decide shapes were bound to their values (gcompile only)
    refused   an error that says why: gcompile's own errors, or `not implemented`
    wrong     other outputs
    failed    any other error, a crash, or no end within the limit

The rows of the table are operators: that of a test is the one its name begins with.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner
from onnx.reference import ReferenceEvaluator

from gcompile.errors import GcompileError

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
OUTCOMES = ("pass", "bound", "refused", "wrong", "failed")
NOT_IMPLEMENTED = ("NOT_IMPLEMENTED", "NotImplemented", "not implemented", "No Op registered",
                   "Could not find an implementation", "No implementation", "unsupported",
                   "not supported")  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one backend made of one test."""

    test: str
    operator: str
    backend: str
    outcome: str
    reason: str = ""


Call = Callable[[list[Any]], Any]
Prepared = tuple[Call, Callable[[], bool]]
"""Runs a model, and says whether inputs had to be bound to their values."""


def run_gcompile(model: onnx.ModelProto) -> Prepared:
    from gcompile.backends.onnx_backend import GcompileBackend

    prepared = GcompileBackend.prepare(model)
    return prepared.run, lambda: bool(prepared.bound)


def run_onnxruntime(model: onnx.ModelProto) -> Prepared:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: session.run(None, _named(names, arrays)), _never


def run_reference(model: onnx.ModelProto) -> Prepared:
    evaluator = ReferenceEvaluator(model)
    names = evaluator.input_names
    return lambda arrays: evaluator.run(None, _named(names, arrays)), _never


def _named(names: list[str], arrays: list[Any]) -> dict[str, Any]:
    return dict(zip(names, arrays, strict=False))


def _never() -> bool:
    return False


BACKENDS = {"gcompile": run_gcompile, "onnxruntime": run_onnxruntime, "reference": run_reference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--include", default="", help="Regular expression of test names.")
    parser.add_argument("--every", type=int, default=1, help="Only every n-th test.")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60.0, help="Seconds for one test.")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=list(BACKENDS))
    parser.add_argument("--json", type=Path, help="Where every outcome is written.")
    arguments = parser.parse_args()
    numbers = [
        number for number, case in enumerate(cases()) if re.search(arguments.include, case.name)
    ][:: arguments.every]
    work = [(number, name) for number in numbers for name in arguments.backends]
    outcomes = list(run_all(work, arguments.jobs, arguments.limit))
    print(f"onnx {onnx.__version__}, {len(numbers)} tests\n")
    print(table(outcomes, arguments.backends))
    print("\nWhy gcompile does not pass, most frequent first:")
    reasons = Counter(o.reason for o in outcomes if o.backend == "gcompile" and o.reason)
    for reason, count in reasons.most_common(25):
        print(f"{count:6}  {reason}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))


def cases() -> list[TestCase]:
    """All tests, in an order that is the same in every process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for kind in KINDS for case in load_model_tests(kind=kind)]


def run_all(work: list[tuple[int, str]], jobs: int, limit_s: float) -> Iterator[Outcome]:
    """Deal the work out to workers that are replaced when they die or are ended."""
    idle: Queue[_Worker] = Queue()
    for _ in range(jobs):
        idle.put(_Worker())

    def one(item: tuple[int, str]) -> Outcome:
        worker = idle.get()
        try:
            return worker.run(item, limit_s)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(one, work)
    while not idle.empty():
        idle.get().end()


class _Worker:
    """A process that runs one test after the other."""

    def __init__(self) -> None:
        self.names = [case.name for case in cases()]
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.connection.recv()  # It is ready: starting does not count.

    def run(self, item: tuple[int, str], limit_s: float) -> Outcome:
        number, backend = item
        name = self.names[number]
        try:
            self.connection.send(item)
            if self.connection.poll(limit_s):
                outcome, reason = self.connection.recv()
                return Outcome(name, operator_of(name), backend, outcome, reason)
            reason = f"no end within {limit_s:.0f} s"
        except (EOFError, OSError):
            reason = "the process died"
        self.end()
        self.start()
        return Outcome(name, operator_of(name), backend, "failed", reason)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(connection: Connection) -> None:
    warnings.simplefilter("ignore")
    tests = cases()
    connection.send("ready")
    while True:
        number, backend = connection.recv()
        connection.send(attempt(tests[number], backend))


def attempt(case: TestCase, backend: str) -> tuple[str, str]:
    """Run one test: the outcome, and why it is not a pass."""
    try:
        model, data = contents(case)
        run, is_bound = BACKENDS[backend](model)
        for inputs, outputs in data:
            found = list(run(inputs))
            try:
                Runner.assert_similar_outputs(
                    flattened(outputs), flattened(found), case.rtol, case.atol
                )
            except Exception as error:
                return "wrong", _short(error)
    except GcompileError as error:
        return "refused", _short(error)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        refused = isinstance(error, NotImplementedError) or any(t in text for t in NOT_IMPLEMENTED)
        return "refused" if refused else "failed", _short(text)
    return "bound" if is_bound() else "pass", ""


def flattened(values: Sequence[Any]) -> list[Any]:
    """Sequences as their elements: ONNX cannot compare scalars in them."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple):
            found += [np.int64(len(value)), *flattened(value)]
        else:
            found.append(value)
    return found


def contents(case: TestCase) -> tuple[onnx.ModelProto, list[tuple[list[Any], list[Any]]]]:
    """The model and its pairs of inputs and outputs, from memory or from the test's folder."""
    if case.model is not None:
        return case.model, [
            (list(map(_array, i)), list(map(_array, o))) for i, o in case.data_sets
        ]
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    data = [
        (_tensors(part, "input"), _tensors(part, "output"))
        for part in sorted(folder.glob("test_data_set_*"))
    ]
    return model, data


def _tensors(folder: Path, kind: str) -> list[Any]:
    count = len(list(folder.glob(f"{kind}_*.pb")))
    return [
        onnx.numpy_helper.to_array(onnx.load_tensor(folder / f"{kind}_{index}.pb"))
        for index in range(count)
    ]


def _array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def operator_of(test: str) -> str:
    """The operator that the longest beginning of the name spells, else the whole name's family."""
    words = test.removeprefix("test_").removesuffix("_cpu").split("_")
    known = _operators()
    for count in range(len(words), 0, -1):
        if (found := known.get("".join(words[:count]).lower())) is not None:
            return found
    return "models"


def _operators() -> dict[str, str]:
    if not _KNOWN:
        _KNOWN.update({s.name.lower(): s.name for s in onnx.defs.get_all_schemas()})
    return _KNOWN


_KNOWN: dict[str, str] = {}


def _short(error: object) -> str:
    text = re.sub(r"'[\w./:]*'|\(nodes?: [^)]*\)", "…", " ".join(str(error).split()))
    return text[:140]


def table(outcomes: list[Outcome], backends: list[str]) -> str:
    """One row for each operator: passes of each backend, and how gcompile ends otherwise."""
    rows: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for outcome in outcomes:
        for row in (outcome.operator, "ALL"):
            rows[row][outcome.backend][outcome.outcome] += 1
    head = f"{'operator':30}{'tests':>6}" + "".join(f"{name:>13}" for name in backends)
    lines = [head + "   gcompile: bound refused wrong failed"]
    for row in sorted(rows, key=lambda name: (name == "ALL", name)):
        counts = rows[row]
        tests = sum(counts[backends[0]].values())
        passed = "".join(f"{counts[b]['pass'] + counts[b]['bound']:>13}" for b in backends)
        rest = "".join(f"{counts['gcompile'][o]:>8}" for o in OUTCOMES[1:])
        lines.append(f"{row:30}{tests:>6}{passed}   {rest}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
