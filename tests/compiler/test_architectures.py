"""Small models of the architectures people bring, with random weights, against eager PyTorch."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Case:
    """A module, its inputs, and the dimension left free."""

    module: Any
    inputs: dict[str, Any]
    free: dict[str, dict[int, str]]


def bert() -> Case:
    config = transformers.BertConfig(
        vocab_size=50, intermediate_size=48, max_position_embeddings=24, **ATTENTION
    )
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    return Case(
        transformers.BertModel(config),
        {"input_ids": torch.randint(0, 50, (2, 9)), "attention_mask": mask},
        {"input_ids": {1: "length"}, "attention_mask": {1: "length"}},
    )


def vit() -> Case:
    config = transformers.ViTConfig(intermediate_size=48, image_size=20, patch_size=5, **ATTENTION)
    return images(transformers.ViTModel(config), 20)


def llama() -> Case:
    config = transformers.LlamaConfig(
        vocab_size=50, intermediate_size=48, num_key_value_heads=2, use_cache=False, **ATTENTION
    )
    ids = torch.randint(0, 50, (2, 9))
    return Case(
        transformers.LlamaForCausalLM(config), {"input_ids": ids}, {"input_ids": {1: "length"}}
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
        {"input_features": torch.randn(2, 8, 24)},
        {"input_features": {0: "rows"}},
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
        {"pixel_values": torch.randn(2, 3, size, size)},
        {"pixel_values": {0: "rows"}},
    )


@pytest.mark.parametrize("precision", [None, "bf16"], ids=["fp32", "bf16"])
@pytest.mark.parametrize("make", [bert, vit, llama, whisper_encoder, mobilenet_v2, resnet])
def test_an_architecture_agrees_with_eager_pytorch(make: Any, precision: str | None) -> None:
    torch.manual_seed(0)
    case = make()
    built = gcompile.compile(
        case.module,
        example_inputs=case.inputs,
        dynamic_shapes=case.free,
        shapes={name: tuple(tensor.shape) for name, tensor in case.inputs.items()},
        precision=precision,
    )
    found = built.artifact.run({name: tensor.numpy() for name, tensor in case.inputs.items()})
    with torch.no_grad():
        outputs = case.module.eval()(**case.inputs)
    wanted = {name: tensor.numpy() for name, tensor in outputs.items()}
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        error = np.abs(found[name] - array).max() / np.abs(array).max()
        assert error < TOLERANCES[precision], name
