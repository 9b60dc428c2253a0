"""Prune a classifier hard, train back what that took, and see after how many inferences it paid.

pip install -c constraints.txt -e '.[train]'; python examples/05_recover_by_training.py

The rows it trains on are those of scikit-learn's digits that `train_digits.py` trains on too; the
rows it is judged by were never trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import gcompile
from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.energy import Roofline
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline
from gcompile.passes.prune.prune_channels import PruneChannels
from gcompile.train import FineTuning, fine_tune, recovery_of

HERE = Path(__file__).parent


def main() -> None:
    """Print accuracy and energy before and after each step."""
    with np.load(HERE / "digits_calib.npz") as rows:
        calibration = {"image": rows["image"]}
    target = gcompile.load_target("cpu")
    ctx = PassContext(target, Roofline(), calibration=calibration, run=OnnxRuntime())
    whole = ir.load(HERE / "digits_cnn.onnx")
    canonicalize_pipeline().apply(whole, ctx)
    pruned = whole.clone()
    PruneChannels(ratio=0.6).apply(pruned, ctx)

    recovered = pruned.clone()
    images, labels = training_rows()
    trained = fine_tune(
        recovered, images, labels, FineTuning(epochs=8, batch=32), teacher=whole,
        progress=lambda epoch: print(f"epoch {epoch.number}: {epoch.accuracy:.4f} held out"),
    )  # fmt: skip

    built = {
        name: gcompile.compile(
            model, "cpu", precision="int8", calib=calibration, evaluate=HERE / "digits_eval.npz"
        )
        for name, model in [("whole", whole), ("pruned", pruned), ("recovered", recovered)]
    }
    for name, result in built.items():
        energy, accuracy = result.report.energy.after, result.report.accuracy
        assert accuracy is not None
        print(f"{name:10} {energy.energy_j * 1e6:6.2f} uJ   top1 {accuracy.compiled:.4f}")
    joules = {name: result.report.energy.after.energy_j for name, result in built.items()}
    cost = recovery_of(
        trained, recovered, target, teacher=whole,
        before_j=joules["whole"], after_j=joules["recovered"],
    )  # fmt: skip
    print(
        f"training took {cost.energy_j:.2g} J, paid back after {cost.break_even:,.0f} inferences"
    )


def training_rows() -> tuple[np.ndarray, np.ndarray]:
    """Return the (rows, 1, 8, 8) images and labels that the digits classifier was trained on."""
    digits = load_digits()
    images = (digits.images[:, None] / 16.0).astype(np.float32)
    chosen, _, labels, _ = train_test_split(
        images, digits.target, test_size=0.4, random_state=0, stratify=digits.target
    )
    return chosen, labels.astype(np.int64)


if __name__ == "__main__":
    main()
