"""Build artefacts for an archive: weights left out where they can be drawn, results expected.

An artefact is built from real weights and verified as always. Then its large weights, in the form
that the kernels take, are replaced by drawn ones of the same type, spread and zeros, and the plan
is run once more on the CPU: that is what a GPU must give.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper, parser

import gcompile
from benchmarks.gpu.bare.case import Case
from benchmarks.gpu.bare.drawn import Drawn, like, read, save, write_weights
from benchmarks.networks import draw_weights, network
from gcompile.backends.cuda.architecture import arch_of
from gcompile.backends.cuda.host_execution import HostExecution
from gcompile.backends.cuda.host_form import host_forms
from gcompile.backends.cuda.lowering.model import lower_model
from gcompile.backends.cuda.planning import plan_of
from gcompile.energy import Roofline, estimate
from gcompile.errors import CompileError
from gcompile.runtime import Manifest
from gcompile.runtime.manifest import FileRecord
from gcompile.runtime.weights import map_weights
from gcompile.targets import load_target
from gcompile.targets.detect_gpu import CARDS

NETWORKS = {
    "resnet50": "resnet50",
    "mobilenet-v2": "mobilenet-v2-1.0-224",
    "bert-base": "bert-base-128",
    "vit-base": "vit-base",
    "llama-layer": "llama-layer",
}
"""The networks of the comparison, and what `benchmarks.networks` calls them."""

PRODUCT = "product-8192"
_PRODUCT_SIZE = 8192

_BOUNDS = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 2e-2, "int8": 2e-2}
_CARRIED_BYTES = 1 << 16
_MOST_EXPECTED = 20_000
_CALIBRATION = 4
_LIMIT_S = 90.0


@dataclass(frozen=True)
class Wanted:
    """One artefact.

    Attributes:
        model: A network of the comparison, `PRODUCT`, or a file.
        calib: Rows for int8; seeded noise where there are none.
    """

    model: str | Path
    precision: str
    batch: int
    target: str
    calib: Path | None = None

    @property
    def name(self) -> str:
        """What its case is called."""
        model = self.model.stem if isinstance(self.model, Path) else self.model
        return f"{model}-{self.precision}-{self.batch}-{self.target}"


def build(wanted: Wanted, folder: Path, drawn: bool = True) -> Case:
    """Build one artefact into the folder `artefacts` of an archive.

    Args:
        wanted: Which one.
        folder: The archive.
        drawn: Whether large weights and inputs are left out and drawn where they are needed.

    Raises:
        GcompileError: It cannot be built.
    """
    place = folder / "artefacts" / wanted.name
    place.parent.mkdir(parents=True, exist_ok=True)
    source = place.with_name(f"{wanted.name}.onnx")
    try:
        model = _model(wanted)
        onnx.save(model, source)
        inputs = _inputs(model)
        del model
        compiled = gcompile.compile(
            source,
            wanted.target,
            precision=wanted.precision,
            calib=_calibration(wanted, inputs) if wanted.precision == "int8" else None,
            output=place,
        )
    finally:
        source.unlink(missing_ok=True)
    _leave_out(place, drawn)
    recipes = _beside(place, "inputs.json")
    save(recipes, [_carried_or_drawn(a, 10_000 + i) for i, a in enumerate(inputs.values())])
    given = dict(zip(inputs, read(recipes), strict=True))
    step = _write_expected(place, compiled, wanted.target, given)
    settings: dict[str, Any] = {
        "folder": f"artefacts/{wanted.name}",
        "bound": _BOUNDS[wanted.precision],
        "step": step,
        "precision": wanted.precision,
        "batch": wanted.batch,
        "timed": not isinstance(wanted.model, Path),
        "predicted": _predicted(compiled),
    }
    if wanted.model in NETWORKS:
        settings["network"] = wanted.model
    if wanted.model == PRODUCT:
        settings |= {"flop": 2 * _PRODUCT_SIZE**3, "dtype": "bfloat16"}
    return Case(f"artefact/{wanted.name}", "artefact", settings, _LIMIT_S)


def _model(wanted: Wanted) -> onnx.ModelProto:
    if isinstance(wanted.model, Path):
        return onnx.load(wanted.model)
    if wanted.model == PRODUCT:
        return _product(_PRODUCT_SIZE)
    model = network(NETWORKS[wanted.model], wanted.batch)
    draw_weights(model)
    return model


def _product(size: int) -> onnx.ModelProto:
    """A matrix product that is one launch: everything is bfloat16 already."""
    shape = f"bfloat16[{size},{size}]"
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]>\n'
        f"product ({shape} x, {shape} w) => ({shape} y) {{ y = MatMul(x, w) }}"
    )
    weights = np.random.default_rng(0).standard_normal((size, size), np.float32) / size**0.5
    model.graph.initializer.append(
        numpy_helper.from_array(weights.astype(ml_dtypes.bfloat16), "w")
    )
    del model.graph.input[1]
    return model


def _inputs(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """One inference of seeded noise; bfloat16 as its bits, as artefacts without it take them."""
    rng = np.random.default_rng(1)
    constants = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for value in (v for v in model.graph.input if v.name not in constants):
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        if kind.kind in "iu":
            found[value.name] = rng.integers(0, 100, shape).astype(kind)
        else:
            found[value.name] = rng.standard_normal(shape, np.float32).astype(kind)
    return found


def _calibration(wanted: Wanted, inputs: Mapping[str, np.ndarray]) -> Path | dict[str, Any]:
    if wanted.calib is not None:
        return wanted.calib
    rng = np.random.default_rng(2)
    return {
        name: rng.permuted(np.concatenate([array] * _CALIBRATION), axis=-1)
        for name, array in inputs.items()
    }


def _leave_out(place: Path, drawn: bool) -> None:
    """Keep what running needs; write down the weights and write drawn ones in their place."""
    manifest = Manifest.read(place)
    used = {"weights.bin", *(v.library for v in manifest.variants)}
    used |= {p.name for p in place.iterdir() if p.suffix in (".cubin", ".ptx")}
    for path in place.iterdir():
        if path.name not in {*used, "manifest.json"}:
            path.unlink()
    tensors = [np.array(array) for array in map_weights(place / "weights.bin", manifest.weights)]
    recipes = _beside(place, "weights.json")
    save(recipes, [_carried_or_drawn(a, i, drawn) for i, a in enumerate(tensors)])
    if tensors:
        write_weights(place, recipes)
    files = {name: FileRecord.of(place / name) for name in manifest.files if name in used}
    replace(manifest, files=files).write(place)


def _carried_or_drawn(array: np.ndarray, seed: int, drawn: bool = True) -> Drawn | np.ndarray:
    if array.dtype == ml_dtypes.bfloat16:
        array = array.view(np.uint16)
    is_known = array.dtype.name in ("float32", "float16", "uint16", "int8", "uint8")
    if not drawn or array.nbytes < _CARRIED_BYTES or not is_known:
        return array
    return like(array, seed)


def _write_expected(
    place: Path, compiled: gcompile.Compiled, target: str, inputs: Mapping[str, np.ndarray]
) -> int:
    """Run the plan on the CPU with the weights that are there now; return which results count."""
    manifest = Manifest.read(place)
    tensors = map_weights(place / "weights.bin", manifest.weights)
    weights = [tensors[index] for index in manifest.variants[0].weights]
    described = load_target(target)
    program = lower_model(compiled.model, described, arch_of(described)).program
    point = manifest.entry_point(None)
    execution = HostExecution(
        plan_of(program),
        program.kernels,
        host_forms(program.kernels),
        weights,
        point.inputs,
        point.outputs,
    )
    found = execution.run(inputs)
    for name, array in found.items():
        spread = float(np.nanstd(array.astype(np.float32)))
        if not 0 < spread < np.inf:
            raise CompileError(f"With drawn weights the output {name!r} says nothing.")
    step = max(1, -(-max(array.size for array in found.values()) // _MOST_EXPECTED)) | 1
    kept = {
        name: np.ascontiguousarray(array.astype(np.float32).reshape(-1)[::step])
        for name, array in found.items()
    }
    with _beside(place, "expected.npz").open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **kept)
    if any(isinstance(item, dict) for item in json.loads(_weights_text(place))):
        (place / "weights.bin").unlink(missing_ok=True)
    return step


def _weights_text(place: Path) -> str:
    return _beside(place, "weights.json").read_text(encoding="utf-8")


def _predicted(compiled: gcompile.Compiled) -> dict[str, dict[str, float]]:
    """What each card with a target should need, by the name its driver gives it."""
    found = {}
    for card, target in CARDS.items():
        described = load_target(target)
        total = estimate(compiled.model, described, Roofline())
        found[card] = {
            "energy_j": total.total.energy_j,
            "low_j": total.low_j,
            "high_j": total.high_j,
            "time_s": total.total.time_s,
        }
    return found


def _beside(place: Path, name: str) -> Path:
    return place.parent / f"{place.name}.{name}"


def files_of_data(folder: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Models of a folder with their calibration rows; none without a folder."""
    for path in sorted(folder.glob("*.onnx")) if folder else []:
        rows = path.with_name(f"{path.stem}.calib.npz")
        yield path, rows if rows.is_file() else None


def remove(wanted: Wanted, folder: Path) -> None:
    """Remove what an attempt left."""
    place = folder / "artefacts" / wanted.name
    shutil.rmtree(place, ignore_errors=True)
    for path in place.parent.glob(f"{wanted.name}.*"):
        path.unlink()
