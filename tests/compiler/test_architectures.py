"""Small models of the architectures people bring, with random weights, against eager PyTorch.

Each is compiled once, with a free dimension, and run at a size that was compiled and at others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import gcompile

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: make check-torch")
transformers = pytest.importorskip("transformers", reason="not installed: make check-torch")

pytestmark = pytest.mark.torch

ATTENTION = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
TOLERANCES = {None: 1e-4, "bf16": 2e-2}


LENGTHS = {"length": "4..8"}
ROWS = {"rows": "1,2"}


@dataclass(frozen=True)
class Case:
    """A module and the dimensions left free.

    Attributes:
        inputs: Makes inputs of so many rows and positions.
        free: The names of the free axes of each input.
        dynamic: The sizes they are compiled for.
    """

    module: Any
    inputs: Callable[[int, int], dict[str, Any]]
    free: dict[str, dict[int, str]]
    dynamic: dict[str, str]


def bert() -> Case:
    config = transformers.BertConfig(
        vocab_size=50, intermediate_size=48, max_position_embeddings=24, **ATTENTION
    )

    def inputs(rows: int, length: int) -> dict[str, Any]:
        mask = torch.ones(rows, length, dtype=torch.long)
        mask[-1, length // 2 :] = 0
        return {"input_ids": torch.randint(0, 50, (rows, length)), "attention_mask": mask}

    free = {name: {0: "rows", 1: "length"} for name in ("input_ids", "attention_mask")}
    return Case(transformers.BertModel(config), inputs, free, LENGTHS | {"rows": "1"})


def vit() -> Case:
    config = transformers.ViTConfig(intermediate_size=48, image_size=20, patch_size=5, **ATTENTION)
    return images(transformers.ViTModel(config), 20)


def llama() -> Case:
    config = transformers.LlamaConfig(
        vocab_size=50, intermediate_size=48, num_key_value_heads=2, use_cache=False, **ATTENTION
    )
    return Case(
        transformers.LlamaForCausalLM(config),
        lambda rows, length: {"input_ids": torch.randint(0, 50, (1, length))},
        {"input_ids": {1: "length"}},
        LENGTHS,
    )


def whisper_encoder() -> Case:
    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8,
        max_source_positions=12, vocab_size=50, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    return Case(
        transformers.WhisperModel(config).encoder,
        lambda rows, length: {"input_features": torch.randn(rows, 8, 24)},
        {"input_features": {0: "rows"}},
        ROWS,
    )


def mobilenet_v2() -> Case:
    config = transformers.MobileNetV2Config(depth_multiplier=0.25, image_size=40, num_labels=5)
    return images(transformers.MobileNetV2ForImageClassification(config), 40)


def resnet() -> Case:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=5
    )
    return images(transformers.ResNetForImageClassification(config), 40)


def images(module: Any, size: int) -> Case:
    return Case(
        module,
        lambda rows, length: {"pixel_values": torch.randn(rows, 3, size, size)},
        {"pixel_values": {0: "rows"}},
        ROWS,
    )


@pytest.mark.parametrize("precision", [None, "bf16"], ids=["fp32", "bf16"])
@pytest.mark.parametrize("make", [bert, vit, llama, whisper_encoder, mobilenet_v2, resnet])
def test_an_architecture_agrees_with_eager_pytorch(make: Any, precision: str | None) -> None:
    torch.manual_seed(0)
    case = make()
    built = gcompile.compile(
        case.module,
        example_inputs=case.inputs(2, 6),
        dynamic_shapes=case.free,
        dynamic=case.dynamic,
        precision=precision,
    )
    for rows, length in ((1, 4), (2, 6), (3, 8)):
        inputs = case.inputs(rows, length)
        found = built.artifact.run({name: tensor.numpy() for name, tensor in inputs.items()})
        with torch.no_grad():
            outputs = case.module.eval()(**inputs)
        wanted = {name: tensor.numpy() for name, tensor in outputs.items()}
        assert list(found) == list(wanted)
        for name, array in wanted.items():
            error = np.abs(found[name] - array).max() / np.abs(array).max()
            assert error < TOLERANCES[precision], (name, rows, length)
