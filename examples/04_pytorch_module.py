"""Compile a PyTorch module, see what each of its layers costs, and compare it with PyTorch.

pip install 'gcompile[torch]'; python examples/04_pytorch_module.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import gcompile

OUTPUT = Path("out") / "pytorch-module"


class Block(nn.Module):  # type: ignore[misc]
    """A convolution beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (rows, channels, height, width) to the same shape."""
        return torch.relu(x + self.norm(self.conv(x)))


def network() -> nn.Module:
    """Return a small classifier of images: `gcompile build 04_pytorch_module:network` names it."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), Block(32), nn.AvgPool2d(4), Block(32), nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    )  # fmt: skip


def main() -> None:
    """Predict, compile, run, compare."""
    module, x = network().eval(), torch.randn(1, 3, 32, 32)

    predicted = gcompile.estimate(module, "raspberry-pi-5", example_inputs=(x,))
    for name, region in predicted.per_region.items():
        place = predicted.places.get(name)
        where = f"{place.module} ({place.source})" if place else name
        print(f"{region.energy_j:8.3g} J  {where}")

    gcompile.compile(module, "cpu", example_inputs=(x,), output=OUTPUT)
    found = gcompile.runtime.load(OUTPUT).run({"input": x.numpy()})["output"]
    with torch.no_grad():
        largest = (module(x) - torch.tensor(found)).abs().max()
    print(f"largest difference from PyTorch: {largest:.1e}")


if __name__ == "__main__":
    main()
