"""Compile a model under an energy budget from Python, run it, and read the ledger.

python examples/01_compile_in_python.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gcompile
from gcompile.report import to_text

HERE = Path(__file__).parent
OUTPUT = Path("out") / "digits-python"


def main() -> None:
    """Predict, compile, run."""
    model = HERE / "digits_cnn.onnx"
    predicted = gcompile.estimate(model, "cpu")
    print(f"as it is: {predicted.total.energy_j:.3g} J, {predicted.boundary} boundary\n")

    compiled = gcompile.compile(
        model,
        target="cpu",
        budget="-50%",
        max_drop="1%",
        calib=HERE / "digits_calib.npz",
        evaluate=HERE / "digits_eval.npz",
        output=OUTPUT,
    )
    print(to_text(compiled.report))

    # This part needs neither the compiler nor the ONNX file, only the folder.
    rows = np.load(HERE / "digits_eval.npz")
    runner = gcompile.runtime.load(OUTPUT)
    logits = runner.run({"image": rows["image"][:1]})["logits"]
    print(f"the first digit is a {rows['labels'][0]} and is read as a {logits.argmax()}")


if __name__ == "__main__":
    main()
