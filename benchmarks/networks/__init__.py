"""Network architectures with random weights, for questions about speed and energy.

With a generator, weights are drawn and stored in the model; batch normalization of ResNet-18 is
written as it stands in the paper, because folding it is part of what is measured. Without one,
weights are windows of one file of random numbers that all models of a folder share (`save`), so
that a hundred networks take as little room and time as their largest tensor; these networks are
written as they are deployed, with batch normalization folded.
"""

from __future__ import annotations

import re

import onnx

from benchmarks.networks.images import (
    dncnn,
    efficientnet_lite,
    fsrcnn,
    mobilenet_v1,
    mobilenet_v2,
    resnet18,
    resnet50,
    squeezenet,
)
from benchmarks.networks.layers import single_layer
from benchmarks.networks.transformers import (
    audio_transformer,
    bert,
    llama_layer,
    vision_transformer,
)
from benchmarks.networks.writer import GraphWriter, draw_weights, save

__all__ = [
    "GraphWriter",
    "draw_weights",
    "network",
    "resnet18",
    "resnet50",
    "save",
    "single_layer",
]


def network(name: str, batch: int = 1) -> onnx.ModelProto:
    """Return an architecture by name, weights in the shared file.

    Args:
        name: `mobilenet-v1-0.25-128`, `mobilenet-v2-1.4-224`, `efficientnet-lite0`, `resnet50`,
            `bert-base-128`, `bert-large-384`, `squeezenet`, `vit-tiny`, `vit-base`, `llama-layer`,
            `audio-transformer`; `fsrcnn-720` and `dncnn-512` on images of this size;
            `gemm-M-K-N`, `conv-SIZE-IN-OUT-KERNEL-STRIDE` and `depthwise-SIZE-CHANNELS-KERNEL` are
            single layers. `-quantized` and `-non-quantized` are ignored.
        batch: Samples of one inference.
    """
    plain = re.sub(r"-(non-)?quantized$", "", name)
    match plain.split("-"):
        case ["mobilenet", "v1", width, size]:
            return mobilenet_v1(float(width), int(size), batch)
        case ["mobilenet", "v2", width, size]:
            return mobilenet_v2(float(width), int(size), batch)
        case ["efficientnet", lite]:
            return efficientnet_lite(int(lite.removeprefix("lite")), batch)
        case ["resnet50"]:
            return resnet50(batch)
        case ["bert", "base", tokens]:
            return bert(12, 768, int(tokens), batch)
        case ["bert", "large", tokens]:
            return bert(24, 1024, int(tokens), batch)
        case ["squeezenet"]:
            return squeezenet(batch)
        case ["fsrcnn", size]:
            return fsrcnn(int(size), batch=batch)
        case ["dncnn", size]:
            return dncnn(int(size), batch=batch)
        case ["vit", "tiny"]:
            return vision_transformer(12, 192, batch)
        case ["vit", "base"]:
            return vision_transformer(12, 768, batch)
        case ["llama", "layer"]:
            return llama_layer(batch=batch)
        case ["audio", "transformer"]:
            return audio_transformer(3, 256, batch)
        case ["gemm" | "conv" | "depthwise" as kind, *sizes]:
            return single_layer(kind, *(int(size) for size in sizes), batch=batch)
    raise ValueError(f"No network is called {name!r}.")
