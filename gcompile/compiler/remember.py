"""Where the measurements of a search are kept, so that one that was killed can go on.

The file is named by everything the measurements depend on: the model, the rows, the target, the
options and the code of gcompile itself.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import gcompile
from gcompile import ir
from gcompile.compiler.job import Job
from gcompile.search import Dataset, Journal

_KEPT = 256
"""Searches remembered; the one not used for the longest time is forgotten first."""

_LIBRARIES = (
    *("numpy", "onnx", "onnxruntime", "apache-tvm", "scipy"),
    *("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
)


def search_journal(job: Job, model: ir.Model, extent: str = "") -> Journal:
    """Open the journal of the search that a job makes on a model after its exact passes.

    Args:
        job: The rows, the target and the options.
        model: What the search starts from.
        extent: What else measurements depend on, such as how many rows errors are measured on.
    """
    if job.searches is None:
        return Journal()
    digest = hashlib.sha256()
    for fact in (extent.encode(), *facts(job, model)):
        digest.update(len(fact).to_bytes(8, "little") + fact)
    _forget(job.searches)
    return Journal.open(job.searches / f"{digest.hexdigest()[:40]}.jsonl")


def facts(job: Job, model: ir.Model) -> Iterator[bytes]:
    """What measurements depend on, as bytes."""
    for graph in ir.all_graphs(model):
        yield repr([str(v.name) for v in (*graph.inputs, *graph.outputs)]).encode()
        for node in graph:
            yield ir.node_proto(node).SerializeToString(deterministic=True)
        for name, value in sorted(graph.initializers.items()):
            if value.const_value is not None:
                yield name.encode()
                yield value.const_value.tobytes()
    for rows in (job.calibration, job.evaluation):
        yield from _arrays(rows)
    ctx = job.context
    yield stable_text((ctx.target, ctx.seed, ctx.threads, job.metric_name)).encode()
    yield _source(job.metric)
    yield job.executor.code_ran.encode()
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            yield f"{library} {version(library)}".encode()
    package = Path(gcompile.__file__).parent
    for path in sorted(package.rglob("*.py")):
        yield path.read_bytes()


def stable_text(value: object) -> str:
    """Like `repr`, but sets have an order that is the same in every process."""
    if is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in fields(value)}
        return type(value).__name__ + stable_text(members)
    if isinstance(value, Mapping):
        items = (f"{stable_text(k)}: {stable_text(v)}" for k, v in value.items())
        return "{" + ", ".join(sorted(items)) + "}"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(stable_text, value))) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(map(stable_text, value)) + ")"
    return repr(value)


def _arrays(rows: Dataset | None) -> Iterator[bytes]:
    if rows is None:
        yield b"none"
        return
    for name, array in (*sorted(rows.inputs.items()), ("", rows.labels)):
        yield f"{name} {getattr(array, 'dtype', '')} {getattr(array, 'shape', '')}".encode()
        if array is not None:
            yield np.ascontiguousarray(array).tobytes()


def _source(function: object) -> bytes:
    """The text of a user's metric: its name does not change with it."""
    with suppress(OSError, TypeError):
        return inspect.getsource(function).encode()  # type: ignore[arg-type]
    return repr(function).encode()


def _forget(folder: Path) -> None:
    """Keep the number of journals bounded."""
    with suppress(OSError):
        found = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
        for path in found[: max(len(found) - _KEPT, 0)]:
            path.unlink()
