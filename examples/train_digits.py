"""Train the small CNN of the demo on scikit-learn's digits, and write the files it needs.

    pip install -c constraints.txt -e '.[train]'
    python examples/train_digits.py

Writes, beside this file:
    digits_cnn.onnx     conv, batch norm, relu (three times), pool, fully connected; input `image`
    digits_calib.npz    calibration rows, taken from the training rows
    digits_eval.npz     held-out rows with `labels`; never seen while training
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent
SEED = 0
EPOCHS = 60
BATCH = 64
CALIBRATION_ROWS = 256
OPSET = 21


def main() -> None:
    """Train, measure the held-out accuracy, export."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    images, labels = digits()
    train_x, eval_x, train_y, eval_y = train_test_split(
        images, labels, test_size=0.4, random_state=SEED, stratify=labels
    )
    model = digits_cnn()
    train(model, torch.from_numpy(train_x), torch.from_numpy(train_y))
    print(f"top-1 on {len(eval_x)} held-out rows: {top1(model, eval_x, eval_y):.4f}")
    export(model)
    np.savez_compressed(HERE / "digits_calib.npz", image=train_x[:CALIBRATION_ROWS])
    np.savez_compressed(HERE / "digits_eval.npz", image=eval_x, labels=eval_y)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images as float32 [rows, 1, 8, 8] between 0 and 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype("float32").reshape(-1, 1, 8, 8), labels.astype("int64")


def digits_cnn() -> nn.Module:
    """Three convolutions at full resolution, where the work of a real vision model is."""

    def block(channels_in: int, channels: int) -> list[nn.Module]:
        conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(channels), nn.ReLU()]

    return nn.Sequential(
        *block(1, 32),
        *block(32, 32),
        *block(32, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10),
    )


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train with images shifted by up to one pixel; end in inference mode."""
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = loss_of(model(shifted(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Move all images of a batch by the same random step of at most one pixel each way."""
    down, right = (int(torch.randint(0, 3, ())) for _ in range(2))
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    return padded[:, :, down : down + 8, right : right + 8]


def top1(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of rows whose largest output is the label."""
    with torch.no_grad():
        return float((model(torch.from_numpy(images)).argmax(1).numpy() == labels).mean())


def export(model: nn.Module) -> None:
    """Write the model as a user would export it: batch norms kept, the batch dimension free."""
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 1, 8, 8),),
        dynamo=True,
        optimize=False,
        input_names=["image"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )
    for node in program.model.graph:  # stack traces name the machine that exported
        node.metadata_props.clear()
    program.model.metadata_props.clear()
    program.save(HERE / "digits_cnn.onnx", external_data=False)


if __name__ == "__main__":
    main()
