"""The Q/DQ model of ONNX Runtime's quantizer, which several peers turn into integer kernels.

Needs nothing of gcompile: the interpreter of another tool may import it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Row = dict[str, NDArray[np.generic]]


def write_qdq(model: Path, out: Path, rows: Iterable[Row], symmetric: bool = False) -> None:
    """Quantize with u8 activations and s8 weights per channel: its advice for x86.

    With `symmetric`, activations are s8 and zero points 0, as TensorRT takes them.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(rows)

        def get_next(self) -> Row | None:
            return next(self.rows, None)

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
        )
        quantized.replace(out)
