"""How much accuracy training gives back after pruning, and what it costs.

    python -m benchmarks.recovery --data DIR [--pruning PIPELINE …] [--epochs 30] [--json out.json]

DIR holds cifar_resnet20.onnx, its calibration and evaluation rows, and cifar10.train_uint8.npz.
The network is pruned by each pipeline, fine-tuned on the training rows (flipped and shifted) with
the original as its teacher, and quantized to int8. Energies are of int8 code, as a share of what
the original takes in int8; accuracies are of ONNX Runtime on all evaluation rows, which nothing
was trained or calibrated on. Needs the extra `[train]`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import machine
from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime, Optimization
from gcompile.energy import Roofline, estimate
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.precision.quantize_static import QuantizeStatic
from gcompile.passes.registry import parse_pipeline
from gcompile.targets import load_target
from gcompile.train import FineTuning, fine_tune, recovery_of

NAME = "cifar_resnet20"
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_SHIFT = 4
PRUNINGS = (
    "prune-channels{ratio=0.25,precision=int8}",
    "prune-blocks{count=2}",
    "prune-blocks{count=3}",
    "prune-blocks{count=4}",
)


@dataclass(frozen=True)
class Row:
    """One pruning: shares of the original's int8 energy, accuracies, and the price of training."""

    pruning: str
    energy: float
    pruned: float
    trained: float
    quantized: float
    training_j: float
    break_even: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pruning", nargs="+", default=PRUNINGS, metavar="PIPELINE")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    path = arguments.data / f"{NAME}.onnx"
    if not path.exists():
        parser.error(f"{path} is not there: --data names the folder of the tasks.")
    bench = Bench.of(arguments.data)
    print(f"{machine()}; {NAME} as given: top1 {bench.accuracy(bench.whole):.4f}")
    print("energy  pruned  trained   int8   training  break-even   seconds  pruning")
    options = FineTuning(epochs=arguments.epochs, learning_rate=arguments.learning_rate)
    rows = []
    for pruning in arguments.pruning:
        row = bench.row(pruning, options)
        rows.append(row)
        print(
            f"{row.energy:6.1%} {row.pruned:7.4f} {row.trained:8.4f}"
            f" {row.quantized:7.4f} {row.training_j:8.0f} J {row.break_even:11.2e}"
            f" {row.seconds:9.0f}  {row.pruning}",
            flush=True,
        )
        if arguments.json:
            found = {"machine": machine(), "rows": [asdict(r) for r in rows]}
            arguments.json.write_text(json.dumps(found) + "\n")


@dataclass(frozen=True)
class Bench:
    """The network, its rows, and what runs it."""

    whole: ir.Model
    ctx: PassContext
    evaluation: dict[str, NDArray[np.generic]]
    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, data: Path) -> Bench:
        """Read all files."""
        with np.load(data / f"{NAME}.calib.npz") as rows:
            calibration = {"input": rows["input"]}
        with np.load(data / f"{NAME}.eval.npz") as rows:
            evaluation = {key: rows[key] for key in ("input", "labels")}
        with np.load(data / "cifar10.train_uint8.npz") as rows:
            images, labels = rows["images"], rows["labels"]
        scaled = ((images / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).astype(np.float32)
        target = load_target("cpu")
        ctx = PassContext(target, Roofline(), calibration=calibration, run=OnnxRuntime(threads=2))
        whole = ir.load(data / f"{NAME}.onnx")
        canonicalize_pipeline().apply(whole, ctx)
        return cls(whole, ctx, evaluation, scaled, labels.astype(np.int64))

    def row(self, pruning: str, options: FineTuning) -> Row:
        """Prune, train, quantize."""
        start = time.perf_counter()
        model = self.whole.clone()
        parse_pipeline(pruning).apply(model, self.ctx)
        pruned = self.accuracy(model)
        found = fine_tune(
            model, self.images, self.labels, options, teacher=self.whole, augment=flip_and_shift
        )
        quantized = model.clone()
        fuse_pipeline().apply(quantized, self.ctx)
        QuantizeStatic().apply(quantized, self.ctx)
        before_j, after_j = self.energy_j(self.whole), self.energy_j(model)
        cost = recovery_of(
            found, model, self.ctx.target, teacher=self.whole, before_j=before_j, after_j=after_j
        )
        return Row(
            pruning, after_j / before_j, pruned, self.accuracy(model), self.accuracy(quantized),
            cost.energy_j, cost.break_even, time.perf_counter() - start,
        )  # fmt: skip

    def accuracy(self, model: ir.Model) -> float:
        """Top-1 of all evaluation rows."""
        runtime = OnnxRuntime(threads=2, optimization=Optimization.ALL)
        name = str(model.graph.outputs[0].name)
        scores = runtime(model, {"input": self.evaluation["input"]})[name]
        return float((scores.argmax(1) == self.evaluation["labels"]).mean())

    def energy_j(self, model: ir.Model) -> float:
        """Joules per inference in int8."""
        in_int8 = Roofline().at(ir.Precision.INT8)
        return estimate(model, self.ctx.target, in_int8, 1).total.energy_j


def flip_and_shift(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images, and move the batch by up to four pixels."""
    mirrored = torch.rand(len(batch), generator=generator) < 0.5
    batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    padded = torch.nn.functional.pad(batch, (_SHIFT,) * 4)
    down, right = torch.randint(0, 2 * _SHIFT + 1, (2,), generator=generator).tolist()
    height, width = batch.shape[2:]
    return padded[:, :, down : down + height, right : right + width]


if __name__ == "__main__":
    main()
