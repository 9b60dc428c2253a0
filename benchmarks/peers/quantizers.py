"""Quantize an ONNX file with another tool; run by the interpreter that has the tool.

    INTERPRETER -m benchmarks.peers.quantizers PEER MODEL CALIB OUT [--eval EVAL --drop 0.01]

PEER is onnxruntime (`quantize_static`), nncf (`nncf.quantize`), nncf-accuracy
(`nncf.quantize_with_accuracy_control`, which takes EVAL and the drop) or neural-compressor (Intel
Neural Compressor for ONNX). Exits with 3 where the tool is absent. Needs nothing of gcompile.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

from benchmarks.peers.qdq import Row, write_qdq

ABSENT = 3
PEERS = ("onnxruntime", "nncf", "nncf-accuracy", "neural-compressor")
_OPSET = 13


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model", type=Path)
    parser.add_argument("calib", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--drop", type=float, default=0.01)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        with tempfile.TemporaryDirectory() as folder:
            model = modern(given.model, Path(folder))
            if given.peer == "onnxruntime":
                write_qdq(model, given.out, rows_of(given.calib))
            elif given.peer == "neural-compressor":
                with_neural_compressor(model, given.calib, given.out)
            else:
                with_nncf(model, given.calib, given.out, given.eval, given.drop)
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed")
        return ABSENT
    return 0


def modern(model: Path, folder: Path) -> Path:
    """The model in an opset that all tools can quantize."""
    import onnx
    from onnx import version_converter

    graph = onnx.load(model)
    opset = next(each.version for each in graph.opset_import if not each.domain)
    if opset >= _OPSET:
        return model
    converted = folder / "modern.onnx"
    onnx.save(version_converter.convert_version(graph, _OPSET), converted)
    return converted


def with_nncf(model: Path, calib: Path, out: Path, evaluation: Path | None, drop: float) -> None:
    """NNCF's defaults, with its scheme for transformers where there is attention."""
    import nncf
    import onnx

    graph = onnx.load(model)
    rows = list(rows_of(calib))
    options: dict[str, Any] = {"subset_size": len(rows)}
    if any(node.op_type in ("Softmax", "LayerNormalization") for node in graph.graph.node[:-3]):
        options["model_type"] = nncf.ModelType.TRANSFORMER
    if evaluation is None:
        onnx.save(nncf.quantize(graph, nncf.Dataset(rows), **options), out)
        return
    labels = np.load(evaluation)["labels"]
    labelled = list(zip(rows_of(evaluation), labels, strict=True))

    def score(candidate: Any, data: Iterable[Any]) -> tuple[float, list[float]]:
        session = _session(candidate)
        right = [
            float(np.asarray(session.run(None, row)[0]).reshape(-1).argmax() == label)
            for row, label in data
        ]
        return float(np.mean(right)), right

    quantized = nncf.quantize_with_accuracy_control(
        graph,
        nncf.Dataset(rows),
        nncf.Dataset(labelled),
        score,
        max_drop=drop,
        **options,
    )
    onnx.save(quantized, out)


def with_neural_compressor(model: Path, calib: Path, out: Path) -> None:
    """The static quantization of Intel Neural Compressor for ONNX, with its defaults."""
    from onnx_neural_compressor.data_reader import CalibrationDataReader
    from onnx_neural_compressor.quantization import config, quantize

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> Row | None:
            return next(self.rows, None)

        def rewind(self) -> None:
            self.rows = rows_of(calib)

    quantize(str(model), str(out), config.StaticQuantConfig(Reader()))


def rows_of(path: Path) -> Iterator[Row]:
    """One inference at a time; labels are left out."""
    arrays = {name: array for name, array in np.load(path).items() if name != "labels"}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: array[index : index + 1] for name, array in arrays.items()}


def _session(model: Any) -> Any:
    import onnxruntime

    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    elif hasattr(model, "model"):
        model = model.model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options)


if __name__ == "__main__":
    sys.exit(main())
