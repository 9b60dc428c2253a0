"""Halve the energy of a PyTorch network that is quantized already, with a data loader.

pip install -c constraints.txt -e '.[train]'; python examples/06_recover_cifar.py DIR

DIR holds the weights of a ResNet-20 for CIFAR-10, cifar_resnet20.safetensors, images to train on,
cifar10.train_uint8.npz, rows for calibration and rows to judge by, cifar_resnet20.calib.npz and
cifar_resnet20.eval.npz. Blocks are removed, what is left learns from the whole network's answers,
is quantized, and learns on with its quantizers: about a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

import gcompile
from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.energy import Roofline
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.precision.quantize_static import QuantizeStatic
from gcompile.passes.prune.prune_blocks import PruneBlocks
from gcompile.train import FineTuning, fine_tune, recovery_of

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Block(nn.Module):  # type: ignore[misc]
    """Two convolutions beside a shortcut without weights."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.more = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, after, H / stride, W / stride)."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.more:
            half = self.more // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return functional.relu(x + y)


class ResNet20(nn.Module):  # type: ignore[misc]
    """He et al., "Deep Residual Learning for Image Recognition", 2015, for CIFAR-10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) images to (N, 10) scores."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def main() -> None:
    """Print accuracy and energy before and after each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--blocks", type=int, default=4, help="how many of nine to remove")
    parser.add_argument("--epochs", type=int, default=45)
    given = parser.parse_args()
    weights = given.data / "cifar_resnet20.safetensors"
    if not weights.is_file():
        parser.error(f"{weights} is not there.")
    torch.set_num_threads(1)
    network = ResNet20().eval()
    network.load_state_dict(read_safetensors(weights))
    whole = ir.from_torch(network, (torch.zeros(1, 3, 32, 32),))

    with np.load(given.data / "cifar_resnet20.calib.npz") as rows:
        calibration = {str(whole.graph.inputs[0].name): rows["input"]}
    target = gcompile.load_target("cpu")
    ctx = PassContext(target, Roofline(), calibration=calibration, run=OnnxRuntime())
    canonicalize_pipeline().apply(whole, ctx)
    pruned = whole.clone()
    PruneBlocks(count=given.blocks).apply(pruned, ctx)

    train, judge = loaders(given.data / "cifar10.train_uint8.npz")
    float_only = FineTuning(
        given.epochs, learning_rate=0.008, weight_decay=1e-4, mixup=1.0, mixed_precision=True
    )
    recovered = pruned.clone()
    learned = fine_tune(
        recovered, train, options=float_only, validation=judge, teacher=whole,
        augment=flip_and_shift,
        progress=lambda epoch: print(f"epoch {epoch.number}: {epoch.accuracy:.4f} held out"),
    )  # fmt: skip
    fuse_pipeline().apply(recovered, ctx)
    QuantizeStatic().apply(recovered, ctx)
    aware = replace(float_only, epochs=10, learning_rate=0.0008, mixed_precision=False)
    fine_tune(
        recovered, train, options=aware, validation=judge, teacher=whole, augment=flip_and_shift
    )

    with np.load(given.data / "cifar_resnet20.eval.npz") as rows:
        evaluation = {next(iter(calibration)): rows["input"], "labels": rows["labels"]}
    joules = {}
    for name, model, precision in [
        ("whole", whole, "int8"), ("pruned", pruned, "int8"), ("recovered", recovered, None)
    ]:  # fmt: skip
        report = gcompile.compile(
            model,
            "cpu",
            precision=precision,
            calib=calibration,
            evaluate=evaluation,
            max_drop=0.99,
        ).report
        joules[name] = report.energy.after.energy_j
        assert report.accuracy is not None
        print(f"{name:10} {joules[name] * 1e6:6.1f} uJ   top1 {report.accuracy.compiled:.4f}")
    cost = recovery_of(
        learned, pruned, target, teacher=whole,
        before_j=joules["whole"], after_j=joules["recovered"],
    )  # fmt: skip
    print(f"training in float took {cost.energy_j:.3g} J, paid back after "
          f"{cost.break_even:,.0f} inferences")  # fmt: skip


def loaders(path: Path) -> tuple[DataLoader, DataLoader]:
    """Batches to train on, in another order every epoch, and batches to judge by."""
    with np.load(path) as rows:
        images, labels = torch.from_numpy(rows["images"]), torch.from_numpy(rows["labels"])
    scaled = (images.permute(0, 3, 1, 2) / 255 - MEAN) / DEVIATION
    generator = torch.Generator().manual_seed(0)
    train, judge = random_split(TensorDataset(scaled, labels.long()), [0.9, 0.1], generator)
    return DataLoader(train, 64, shuffle=True, generator=generator), DataLoader(judge, 64)


def flip_and_shift(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and move the batch by up to four pixels."""
    mirrored = torch.rand(len(batch), generator=generator) < 0.5
    batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    down, right = torch.randint(0, 9, (2,), generator=generator).tolist()
    return functional.pad(batch, (4,) * 4)[:, :, down : down + 32, right : right + 32]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read float32 tensors: a JSON table of places, and the numbers after it."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    table = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in table.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            numbers = np.frombuffer(data[8 + length + start : 8 + length + end], np.float32)
            found[name] = torch.from_numpy(numbers.reshape(entry["shape"]).copy())
    return found


if __name__ == "__main__":
    main()
