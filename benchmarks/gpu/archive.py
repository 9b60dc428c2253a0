"""Put an archive together: what is measured, the runtime, and the script that runs it."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks.gpu.bare.case import Case
from benchmarks.networks import draw_weights, network
from benchmarks.peers.qdq import write_qdq
from gcompile.errors import UsageError

_ROOT = Path(__file__).parents[2]
_RUNTIME = (
    "gcompile/__init__.py",
    "gcompile/errors.py",
    "gcompile/runtime",
    "gcompile/energy/meters/measure.py",
    "gcompile/energy/meters/measurement.py",
    "gcompile/energy/meters/meter.py",
    "gcompile/energy/meters/nvml.py",
    "benchmarks/__init__.py",
    "benchmarks/gpu/__init__.py",
    "benchmarks/gpu/bare",
)
"""What runs there. `gcompile.energy` without its `__init__` is a plain folder of files to Python,
so that the meter comes along without the energy model and what that imports."""

_SCRIPT = '''"""See `benchmarks/gpu/bare/main.py`: python run.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from benchmarks.gpu.bare.main import main

sys.exit(main(Path(__file__).parent))
'''

_CALIBRATION = 4
_PEER_LIMIT_S = 60.0
_COMPILE_LIMIT_S = 240.0


def copy_runtime(folder: Path) -> None:
    """Copy the runtime, the checks and the script into an archive's folder."""
    for name in _RUNTIME:
        source, target = _ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "run.py").write_text(_SCRIPT, encoding="utf-8")


def peer_cases(
    networks: dict[str, str],
    batches: Sequence[int],
    folder: Path,
    peers: Sequence[str],
    precisions: Sequence[str],
) -> list[Case]:
    """The other contenders' cases, quick ones first; their models go into the folder.

    A model's weights are windows of one file of random numbers, which is written where it is run.
    """
    needed = 0
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for name, called in networks.items():
        for batch in batches:
            model = network(called, batch)
            (folder / "models" / f"{name}-{batch}.onnx").write_bytes(model.SerializeToString())
            needed = max(needed, _shared_bytes(model))
    return [
        Case(
            f"peer/{peer}/{name}-{precision}",
            "peer",
            {
                "peer": peer,
                "network": name,
                "precision": precision,
                "batches": list(batches),
                "files": {str(b): f"models/{name}-{b}.onnx" for b in batches},
                "shared_bytes": needed,
            },
            _COMPILE_LIMIT_S if peer in ("torch.compile", "TensorRT") else _PEER_LIMIT_S,
        )
        for peer in sorted(peers, key=lambda peer: peer == "torch.compile")
        for precision in ("tf32" if each == "fp32" else each for each in precisions)
        for name in networks
    ]


def write_quantized(called: str, batch: int, folder: Path) -> str:
    """Write a network as a Q/DQ model whose zero points are all 0, and return where it is."""
    model = network(called, batch)
    draw_weights(model)
    plain, out = folder / f"{called}-{batch}.fp32.onnx", folder / f"{called}-{batch}.int8.onnx"
    onnx.save(model, plain)
    rng = np.random.default_rng(0)
    given = model.graph.input[0]
    shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    is_float = given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    rows = (
        rng.standard_normal(shape, np.float32) if is_float else rng.integers(0, 100, shape)
        for _ in range(_CALIBRATION)
    )
    write_qdq(plain, out, ({given.name: row} for row in rows), symmetric=True)
    plain.unlink()
    return f"{folder.name}/{out.name}"


def pack(folder: Path, out: Path, most_bytes: int) -> int:
    """Write the archive and return its size.

    Raises:
        UsageError: It is larger than allowed; nothing is kept.
    """
    part = out.with_suffix(".part")
    with tarfile.open(part, "w:xz") as archive:
        archive.add(folder, arcname="bundle")
    size = part.stat().st_size
    if size > most_bytes:
        part.unlink()
        largest = sorted(folder.rglob("*"), key=lambda path: path.stat().st_size)[-3:]
        names = ", ".join(str(path.relative_to(folder)) for path in largest)
        raise UsageError(
            f"The archive has {size / 2**20:.1f} MiB and {most_bytes / 2**20:.0f} MiB are "
            f"allowed. The largest files are {names}; name fewer models."
        )
    part.replace(out)
    return size


def _shared_bytes(model: onnx.ModelProto) -> int:
    places = [
        {entry.key: int(entry.value) for entry in tensor.external_data if entry.value.isdecimal()}
        for tensor in model.graph.initializer
    ]
    return max((place["offset"] + place["length"] for place in places if place), default=0)
