"""A small Llama with an explicit cache: prefill and decode, against eager PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcompile
from gcompile import ir, runtime
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import UsageError

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: make check-torch")
transformers = pytest.importorskip("transformers", reason="not installed: make check-torch")

pytestmark = pytest.mark.torch

PROMPT, NEW, LENGTH = 16, 8, 32
STEPS = {"prefill": PROMPT, "decode": 1}


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 50, (1, PROMPT + NEW))


@pytest.fixture(scope="module")
def expected(model: Any, ids: np.ndarray) -> np.ndarray:
    """What eager PyTorch computes from all tokens at once, without a cache."""
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(ids)).logits.numpy()
    return logits


def generate(folder: Path, ids: np.ndarray) -> np.ndarray:
    """The logits of a prompt taken in at once, and of tokens taken in one by one."""
    session = runtime.Session.load(folder)
    found = [session.run("prefill", {"input_ids": ids[:, :PROMPT], "position": np.array([0])})]
    for at in range(PROMPT, PROMPT + NEW):
        one = {"input_ids": ids[:, at : at + 1], "position": np.array([at])}
        found.append(session.run("decode", one))
    return np.concatenate([outputs["logits"] for outputs in found], axis=1)


def spread(difference: np.ndarray, of: np.ndarray) -> float:
    return float(np.abs(difference).max() / np.abs(of).max())


@pytest.mark.parametrize(("precision", "tolerance"), [(None, 1e-4), ("bf16", 2e-2)])
def test_prefill_and_decode_agree_with_the_whole_model(
    model: Any,
    ids: np.ndarray,
    expected: np.ndarray,
    tmp_path: Path,
    precision: str | None,
    tolerance: float,
) -> None:
    entries = gcompile.decoder_entries(model, STEPS, LENGTH)
    built = gcompile.compile_entries(entries, precision=precision, output=tmp_path / "out")
    assert spread(generate(built.folder, ids) - expected, expected) < tolerance
    prefill, decode = built.report.entries
    assert (prefill.tokens, decode.tokens) == (PROMPT, 1)
    assert prefill.energy_per_token_j is not None
    assert decode.energy_per_token_j is not None
    assert prefill.energy_per_token_j < decode.energy_per_token_j


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_of_few_bits_are_those_that_the_artefact_says(
    model: Any, ids: np.ndarray, tmp_path: Path, bits: int
) -> None:
    passes = f"canonicalize,quantize-weights{{bits={bits},block=32}}"
    entries = gcompile.decoder_entries(model, STEPS, LENGTH)
    built = gcompile.compile_entries(entries, passes=passes, output=tmp_path / "out")
    found = generate(built.folder, ids)
    written = ir.load(built.folder / "prefill.onnx")
    assert sum(n.op_type == "DequantizeLinear" for n in written.graph) == 15
    empty = {
        str(v.name): np.zeros(ir.static_shape(v), np.float32)
        for v in written.graph.inputs
        if str(v.name).startswith("past")
    }
    given = {"input_ids": ids[:, :PROMPT], "position": np.array([0])}
    expected = OnnxRuntime()(written, empty | given)["logits"]
    assert spread(found[:, :PROMPT] - expected, expected) < 1e-4
    decode = ir.load(built.folder / "decode.onnx")
    for name, value in written.graph.initializers.items():
        if name.endswith(("_stored", "_scale")):
            other = ir.constant_array(decode.graph.initializers[name])
            np.testing.assert_array_equal(ir.constant_array(value), other)


def test_a_prompt_in_parts_that_is_filled_up_gives_the_same(
    model: Any, ids: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    entries = gcompile.decoder_entries(model, {"five": 5, "one": 1}, LENGTH)
    built = gcompile.compile_entries(entries, output=tmp_path / "out")
    session = runtime.Session.load(built.folder)
    prompt = np.concatenate([ids[:, :13], np.full((1, 2), 7)], axis=1)
    found = [
        session.run("five", {"input_ids": prompt[:, at : at + 5], "position": np.array([at])})
        for at in (0, 5, 10)
    ]
    found.append(session.run("one", {"input_ids": ids[:, 13:14], "position": np.array([13])}))
    logits = [*(f["logits"] for f in found[:2]), found[2]["logits"][:, :3], found[3]["logits"]]
    assert spread(np.concatenate(logits, axis=1) - expected[:, :14], expected) < 1e-4


def test_what_is_no_decoder_is_refused(model: Any) -> None:
    with pytest.raises(UsageError, match="A Linear is no decoder"):
        ir.decoder_step(torch.nn.Linear(2, 2), 1, 4)
    with pytest.raises(UsageError, match="does not fit a cache of 4"):
        ir.decoder_step(model, 5, 4)
