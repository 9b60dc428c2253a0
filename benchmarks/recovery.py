"""How much accuracy training gives back after pruning, and what it costs.

    python -m benchmarks.recovery --data DIR [--pruning PIPELINE …] [--epochs 45] [--json out.json]

DIR holds cifar_resnet20.onnx, its calibration and evaluation rows, and cifar10.train_uint8.npz.
The network is pruned by each pipeline, fine-tuned on the training rows (flipped, shifted and
mixed) with the original as its teacher, quantized to int8, and trained on with its quantizers.
Energies are of int8 code, as a share of what the original takes in int8; accuracies are of ONNX
Runtime on all evaluation rows, which nothing was trained or calibrated on. Needs the extra
`[train]`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.timing import machine
from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime, Optimization
from gcompile.energy import Roofline, estimate
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.precision.quantize_static import QuantizeStatic
from gcompile.passes.registry import parse_pipeline
from gcompile.targets import load_target
from gcompile.train import Epoch, FineTuning, Recovery, fine_tune, recovery_of

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
    aware: float
    training_j: float
    break_even: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pruning", nargs="+", default=PRUNINGS, metavar="PIPELINE")
    parser.add_argument("--epochs", type=int, default=45, help="in float, after pruning")
    parser.add_argument("--learning-rate", type=float, default=0.008)
    parser.add_argument("--aware-epochs", type=int, default=10, help="with quantizers, after that")
    parser.add_argument("--mixup", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        _compare(parser, arguments)


def _compare(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    path = arguments.data / f"{NAME}.onnx"
    if not path.exists():
        parser.error(f"{path} is not there: --data names the folder of the tasks.")
    bench = Bench.of(arguments.data, arguments.threads)
    print(f"{machine()}; {NAME} as given: top1 {bench.accuracy(bench.whole):.4f}")
    print("energy  pruned  trained   int8   aware   training  break-even   seconds  pruning")
    options = FineTuning(
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        mixup=arguments.mixup,
        weight_decay=1e-4,
        mixed_precision=True,
    )
    aware = replace(
        options,
        epochs=arguments.aware_epochs,
        learning_rate=arguments.learning_rate / 10,
        mixed_precision=False,
    )
    rows = []
    for pruning in arguments.pruning:
        row = bench.row(pruning, options, aware)
        rows.append(row)
        print(
            f"{row.energy:6.1%} {row.pruned:7.4f} {row.trained:8.4f}"
            f" {row.quantized:7.4f} {row.aware:7.4f} {row.training_j:8.0f} J"
            f" {row.break_even:11.2e} {row.seconds:9.0f}  {row.pruning}",
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
    threads: int = 1

    @classmethod
    def of(cls, data: Path, threads: int = 1) -> Bench:
        """Read all files."""
        with np.load(data / f"{NAME}.calib.npz") as rows:
            calibration = {"input": rows["input"]}
        with np.load(data / f"{NAME}.eval.npz") as rows:
            evaluation = {key: rows[key] for key in ("input", "labels")}
        with np.load(data / "cifar10.train_uint8.npz") as rows:
            images, labels = rows["images"], rows["labels"]
        scaled = ((images / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).astype(np.float32)
        target = load_target("cpu")
        ctx = PassContext(
            target, Roofline(), calibration=calibration, run=OnnxRuntime(threads=threads)
        )
        whole = ir.load(data / f"{NAME}.onnx")
        canonicalize_pipeline().apply(whole, ctx)
        return cls(whole, ctx, evaluation, scaled, labels.astype(np.int64), threads)

    def row(self, pruning: str, options: FineTuning, aware: FineTuning) -> Row:
        """Prune, train, quantize, train."""
        start = time.perf_counter()
        model = self.whole.clone()
        parse_pipeline(pruning).apply(model, self.ctx)
        pruned = self.accuracy(model)
        before_j, after_j = self.energy_j(self.whole), self.energy_j(model)
        spent_j = self._train(model, options)
        trained = self.accuracy(model)
        quantized = model.clone()
        fuse_pipeline().apply(quantized, self.ctx)
        QuantizeStatic().apply(quantized, self.ctx)
        rounded = self.accuracy(quantized)
        spent_j += self._train(quantized, aware)
        cost = Recovery(spent_j, before_j - after_j)
        return Row(
            pruning, after_j / before_j, pruned, trained, rounded, self.accuracy(quantized),
            cost.energy_j, cost.break_even, time.perf_counter() - start,
        )  # fmt: skip

    def _train(self, model: ir.Model, options: FineTuning) -> float:
        """Train with the whole network as the teacher; return the joules that it takes."""
        found = fine_tune(
            model, self.images, self.labels, options,
            teacher=self.whole, augment=flip_and_shift, progress=_tell,
        )  # fmt: skip
        cost = recovery_of(
            found, model, self.ctx.target, teacher=self.whole, before_j=0.0, after_j=0.0
        )
        return cost.energy_j

    def accuracy(self, model: ir.Model) -> float:
        """Top-1 of all evaluation rows."""
        runtime = OnnxRuntime(threads=self.threads, optimization=Optimization.ALL)
        name = str(model.graph.outputs[0].name)
        scores = runtime(model, {"input": self.evaluation["input"]})[name]
        return float((scores.argmax(1) == self.evaluation["labels"]).mean())

    def energy_j(self, model: ir.Model) -> float:
        """Joules per inference in int8."""
        in_int8 = Roofline().at(ir.Precision.INT8)
        return estimate(model, self.ctx.target, in_int8, 1).total.energy_j


def _tell(epoch: Epoch) -> None:
    print(f"epoch {epoch.number}: loss {epoch.loss:.3f}, held out {epoch.accuracy:.4f}",
          file=sys.stderr, flush=True)  # fmt: skip


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
