"""Tasks with labels, and models of other tools on them: their accuracy and their joules."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

import gcompile
from gcompile.errors import GcompileError

PEERS = ("onnxruntime", "nncf", "neural-compressor")
_ABSENT = 3
_QUANTIZERS = "benchmarks.peers.quantizers"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Labelled:
    """A model, rows to calibrate on and rows with labels."""

    name: str
    model: Path
    calib: Path
    evaluation: Path


@dataclass(frozen=True)
class PeerPoint:
    """What a tool made of a task: its accuracy in ONNX Runtime, or why there is none.

    Attributes:
        energy_j: Estimated for the target as for our own models; None where we cannot price it.
    """

    accuracy: float | None
    energy_j: float | None = None
    note: str = ""


def find_tasks(data: Path, others: Sequence[str], names: Sequence[str]) -> list[Labelled]:
    """Tasks in a folder; `others` says where models lie that are not in it, as NAME=PATH."""
    elsewhere = {name: Path(path) for name, _, path in (text.partition("=") for text in others)}
    found = []
    for evaluation in sorted(data.glob("*.eval.npz")):
        name = evaluation.name.removesuffix(".eval.npz")
        model = elsewhere.get(name, data / f"{name}.onnx")
        if model.is_file() and (not names or name in names):
            found.append(Labelled(name, model, data / f"{name}.calib.npz", evaluation))
    return found


def with_labels(task: Labelled, share: float, folder: Path) -> Labelled:
    """The task, calibrated on a share of its evaluation rows with labels, judged on the others."""
    arrays = dict(np.load(task.evaluation))
    count = len(arrays["labels"])
    order = np.random.default_rng(0).permutation(count)
    parts = order[: round(share * count)], order[round(share * count) :]
    paths = [folder / f"{task.name}.{part}.npz" for part in ("labelled", "others")]
    for path, part in zip(paths, parts, strict=True):
        rows = {n: a[part] if len(a) == count else a for n, a in arrays.items()}
        np.savez(path, **rows)
    return Labelled(task.name, task.model, paths[0], paths[1])


def task_parser(description: str) -> argparse.ArgumentParser:
    """Arguments that say which tasks to measure, and where the figures go."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--task", action="append", default=[], help="Only this one. Repeatable.")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="[TOOL=]PYTHON",
        help="The interpreter that has the other tools, or one of them. Repeatable.",
    )  # fmt: skip
    return parser


def interpreters(given: Sequence[str]) -> dict[str, str]:
    """Interpreters by the tool that they have, the others' under ''; of [TOOL=]PYTHON."""
    pairs = (text.rpartition("=") for text in given)
    return {tool: python for tool, _, python in pairs}


def peer_point(
    peer: str,
    task: Labelled,
    pythons: Mapping[str, str],
    *,
    drop: float | None = None,
    target: str | None = None,
) -> PeerPoint:
    """Let a tool quantize a task, and measure what it made; see `interpreters` for `pythons`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantized.onnx"
        files = [str(path.absolute()) for path in (task.model, task.calib, out)]
        tool = peer.removesuffix("-accuracy")
        python = pythons.get(tool) or pythons.get("") or sys.executable
        command = [python, "-m", _QUANTIZERS, peer, *files]
        if drop is not None:
            command += ["--eval", str(task.evaluation.absolute()), "--drop", str(drop)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)
        if done.returncode == _ABSENT:
            return PeerPoint(None, note="absent: " + done.stdout.strip())
        if done.returncode or not out.is_file():
            last = (done.stderr.strip().splitlines() or ["it wrote no model"])[-1]
            return PeerPoint(None, note=f"failed: {last:.120}")
        accuracy = accuracy_of(out, task.evaluation)
        return PeerPoint(accuracy, *_price(out, target))


def accuracy_of(model: Path, evaluation: Path) -> float:
    """The share of rows whose largest output is the label, row by row in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options)
    arrays = dict(np.load(evaluation))
    labels = arrays.pop("labels")
    right = 0
    for index, label in enumerate(labels):
        row = {name: array[index : index + 1] for name, array in arrays.items()}
        right += int(np.asarray(session.run(None, row)[0]).reshape(-1).argmax() == label)
    return right / len(labels)


def _price(model: Path, target: str | None) -> tuple[float | None, str]:
    if target is None:
        return None, ""
    try:
        return gcompile.estimate(model, target).total.energy_j, ""
    except GcompileError as error:
        return None, f"not priced: {error!s:.100}"
