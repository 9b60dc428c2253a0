"""Train the small CNN of the demo on scikit-learn's digits, and write the files it needs.

    pip install -c constraints.txt -e '.[train]'
    python examples/train_digits.py

Writes, beside this file:
    digits_cnn.onnx     conv, batch norm, relu (three times), pool, fully connected; input `image`
    digits_calib.npz    calibration rows, taken from the training rows
    digits_eval.npz     held-out rows with `labels`; never seen while training
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent
SEED = 0
EPOCHS = 60
BATCH = 64
CALIBRATION_ROWS = 256

CONV = "Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
BLOCK = """
    [conv{0}] c{0} = {conv} ({1}, conv{0}_weight)
    [norm{0}] n{0} = BatchNormalization (
        c{0}, norm{0}_weight, norm{0}_bias, norm{0}_running_mean, norm{0}_running_var)
    [relu{0}] r{0} = Relu (n{0})"""
GRAPH = f"""
<ir_version: 10, opset_import: ["" : 21]>
digits_cnn (float[N, 1, 8, 8] image) => (float[N, 10] logits) {{
    {BLOCK.format(1, "image", conv=CONV)}
    {BLOCK.format(2, "r1", conv=CONV)}
    {BLOCK.format(3, "r2", conv=CONV)}
    [pool] p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r3)
    [flatten] f = Flatten (p)
    [classify] logits = Gemm <transB = 1> (f, classify_weight, classify_bias)
}}
"""


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
    layers: dict[str, nn.Module] = {}
    for index, (channels_in, channels) in enumerate(((1, 32), (32, 32), (32, 64)), 1):
        layers[f"conv{index}"] = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        layers[f"norm{index}"] = nn.BatchNorm2d(channels)
        layers[f"relu{index}"] = nn.ReLU()
    layers["pool"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["classify"] = nn.Linear(64 * 4 * 4, 10)
    return nn.Sequential(OrderedDict(layers))


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
    """Write the model as it was trained: batch norms kept, the batch dimension free."""
    proto = onnx.parser.parse_model(GRAPH)
    for name, value in model.state_dict().items():
        if "num_batches" not in name:
            tensor = onnx.numpy_helper.from_array(value.numpy(), name.replace(".", "_"))
            proto.graph.initializer.append(tensor)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, HERE / "digits_cnn.onnx")


if __name__ == "__main__":
    main()
