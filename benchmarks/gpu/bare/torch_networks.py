"""The networks of the comparison as their users write them in PyTorch, with random weights.

The same layers and sizes as `benchmarks.networks`. Batch normalization is folded, as it is
deployed; attention is `scaled_dot_product_attention`, which takes PyTorch's flash kernels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - how all torch code writes it
from torch import Tensor, nn

TOKENS = 128
"""Of BERT and of the decoder layer."""

_BERT_WORDS = 30522
_PATCHES = 196
_LLAMA = (2048, 8192, 32)
_ROTARY_BASE = 10_000.0


def torch_network(name: str, batch: int, device: str = "cuda") -> tuple[nn.Module, Tensor]:
    """A network in float32, and one input of it."""
    with torch.device(device):
        module, x = _drawn(name, batch)
    return module.eval(), x


def _drawn(name: str, batch: int) -> tuple[nn.Module, Tensor]:
    image = (batch, 3, 224, 224)
    match name:
        case "resnet50":
            return _images(_resnet50()), torch.randn(image)
        case "mobilenet-v2":
            return _images(_mobilenet_v2()), torch.randn(image)
        case "bert-base":
            return _Bert(), torch.randint(0, _BERT_WORDS, (batch, TOKENS))
        case "vit-base":
            return _VisionTransformer(), torch.randn(image)
        case "llama-layer":
            return _LlamaLayer(*_LLAMA), torch.randn(batch, TOKENS, _LLAMA[0])
    raise ValueError(f"No network is called {name!r}.")


def _images(module: nn.Module) -> nn.Module:
    """Channels last: the layout that PyTorch's convolutions on tensor cores want."""
    return module.to(memory_format=torch.channels_last)


def _conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups)


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, body: nn.Module, shortcut: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.last = body, shortcut, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x) + self.shortcut(x))


def _resnet50() -> nn.Module:
    layers: list[nn.Module] = [_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(blocks):
            step = stride if index == 0 else 1
            body = nn.Sequential(
                _conv(inside, width, 1), nn.ReLU(),
                _conv(width, width, 3, step), nn.ReLU(),
                _conv(width, 4 * width, 1),
            )  # fmt: skip
            shortcut = _conv(inside, 4 * width, 1, step) if index == 0 else nn.Identity()
            layers.append(_Residual(body, shortcut, nn.ReLU()))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000))


def _mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [_conv(3, 32, 3, 2), nn.ReLU6()]
    inside = 32
    for expand, channels, blocks, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
        (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(blocks):
            step, hidden = (stride if index == 0 else 1), expand * inside
            wider = [_conv(inside, hidden, 1), nn.ReLU6()] if expand > 1 else []
            body = nn.Sequential(
                *wider,
                _conv(hidden, hidden, 3, step, hidden), nn.ReLU6(),
                _conv(hidden, channels, 1),
            )  # fmt: skip
            adds = step == 1 and inside == channels
            layers.append(_Residual(body, nn.Identity(), nn.Identity()) if adds else body)
            inside = channels
    layers += [_conv(inside, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, 1000))


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.read(x).view(batch, tokens, 3, self.heads, 64).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*parts)
        return self.write(y.transpose(1, 2).reshape(batch, tokens, width))


def _feed_forward(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class _Bert(nn.Module):  # type: ignore[misc]
    def __init__(self, layers: int = 12, width: int = 768) -> None:
        super().__init__()
        self.words = nn.Embedding(_BERT_WORDS, width)
        self.places = nn.Parameter(torch.randn(1, TOKENS, width))
        self.first = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [_Attention(width), nn.LayerNorm(width), _feed_forward(width), nn.LayerNorm(width)]
            )
            for _ in range(layers)
        )
        self.last = nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        y = self.first(self.words(ids) + self.places)
        for attend, norm, feed, norm_after in self.layers:
            y = norm(y + attend(y))
            y = norm_after(y + feed(y))
        return self.last(y)


class _VisionTransformer(nn.Module):  # type: ignore[misc]
    def __init__(self, layers: int = 12, width: int = 768) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, _PATCHES + 1, width))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [nn.LayerNorm(width), _Attention(width), nn.LayerNorm(width), _feed_forward(width)]
            )
            for _ in range(layers)
        )
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(len(y), -1, -1), y], 1) + self.places
        for norm, attend, norm_after, feed in self.layers:
            y = y + attend(norm(y))
            y = y + feed(norm_after(y))
        return self.last(self.norm(y)[:, 0])


class _LlamaLayer(nn.Module):  # type: ignore[misc]
    """Attention with rotary positions and a gated feed-forward (Touvron et al., 2023)."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.read = nn.Linear(width, 3 * width, bias=False)
        self.write = nn.Linear(width, width, bias=False)
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)
        self.norm, self.norm_after = (nn.Parameter(torch.ones(width)) for _ in range(2))
        powers = torch.arange(0, self.size, 2) / self.size
        angles = torch.outer(torch.arange(TOKENS), _ROTARY_BASE**-powers).repeat(1, 2)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.read(_rms_norm(x, self.norm)).view(batch, tokens, 3, self.heads, self.size)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self._turn(q), self._turn(k), v, is_causal=True)
        x = x + self.write(y.transpose(1, 2).reshape(batch, tokens, width))
        y = _rms_norm(x, self.norm_after)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def _turn(self, x: Tensor) -> Tensor:
        low, high = x.chunk(2, -1)
        return x * self.cosines + torch.cat([-high, low], -1) * self.sines


def _rms_norm(x: Tensor, weight: Any) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight
