"""One step of a decoder of `transformers`: tokens and the cache in, logits and the cache out.

The cache has a fixed length, so that one graph does for every position: the keys and values of the
step's tokens replace the rows at their positions, and a mask hides the rows after each token. A
prompt is taken in by a step of many tokens, or by several; the last may be filled up with any
tokens, whose rows those that follow replace.
"""

from __future__ import annotations

from typing import Any

import onnx_ir

from gcompile.errors import UsageError
from gcompile.ir.from_torch import TorchModule, from_torch, import_torch


def decoder_step(model: TorchModule, tokens: int, length: int, batch: int = 1) -> onnx_ir.Model:
    """Make a graph of a causal language model of `transformers` with an explicit cache.

    Inputs are `input_ids` (batch, tokens), `position` (1), where the first token stands, and
    `past.N.key` and `past.N.value` (batch, heads, length, size) for each layer N; outputs are
    `logits` (batch, tokens, vocabulary), `present.N.key` and `present.N.value`.

    Args:
        model: A `LlamaForCausalLM` or another whose layers keep keys and values.
        tokens: Tokens of a step.
        length: Positions that the cache has room for.
        batch: Sequences, which all stand at the same position.

    Raises:
        UsageError: PyTorch or transformers are missing, or the model has no such configuration.
        ExportError: The model cannot become a graph.
    """
    torch = import_torch()
    config: Any = getattr(model, "config", None)
    layers, width = (getattr(config, n, 0) for n in ("num_hidden_layers", "hidden_size"))
    heads = getattr(config, "num_attention_heads", 0)
    if not layers or not heads:
        raise UsageError(
            f"A {type(model).__name__} is no decoder of transformers. Give a model such as "
            "LlamaForCausalLM, or export a graph with the cache as inputs and outputs."
        )
    if not 0 < tokens <= length:
        raise UsageError(f"A step of {tokens} tokens does not fit a cache of {length} positions.")
    shape = (
        batch,
        getattr(config, "num_key_value_heads", None) or heads,
        length,
        getattr(config, "head_dim", None) or width // heads,
    )
    inputs = {
        "input_ids": torch.zeros(batch, tokens, dtype=torch.long),
        "position": torch.zeros(1, dtype=torch.long),
        "keys": [torch.zeros(shape) for _ in range(layers)],
        "values": [torch.zeros(shape) for _ in range(layers)],
    }
    graph = from_torch(_step(torch, model), inputs)
    names = [f"{n}.{kind}" for kind in ("key", "value") for n in range(layers)]
    _rename(graph.graph.inputs, ["input_ids", "position", *(f"past.{n}" for n in names)])
    _rename(graph.graph.outputs, ["logits", *(f"present.{n}" for n in names)])
    graph.graph.name = type(model).__name__
    return graph


def _step(torch: Any, model: Any) -> Any:
    """The module of one step."""
    cache_layer = _cache_layer()
    from transformers.cache_utils import Cache

    class Step(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, position: Any, keys: Any, values: Any) -> Any:
            positions = position + torch.arange(input_ids.shape[1])
            seen = torch.arange(keys[0].shape[2])[None, :] <= positions[:, None]
            hidden = torch.finfo(torch.float32).min
            layers = [cache_layer(k, v, positions) for k, v in zip(keys, values, strict=True)]
            logits = self.model(
                input_ids=input_ids,
                attention_mask=torch.where(seen, 0.0, hidden)[None, None],
                position_ids=positions[None],
                past_key_values=Cache(layers=layers),
                use_cache=True,
            ).logits
            return logits, [layer.keys for layer in layers], [layer.values for layer in layers]

    return Step()


def _cache_layer() -> Any:
    """The class of a layer's cache that is written without changing the tensors it was given."""
    try:
        from transformers.cache_utils import CacheLayerMixin
    except ImportError as error:
        raise UsageError(
            f"Decoders come from transformers ({error}). Install it with: pip install transformers"
        ) from error

    class Layer(CacheLayerMixin):  # type: ignore[misc]
        is_compileable = True
        is_sliding = False

        def __init__(self, keys: Any, values: Any, positions: Any) -> None:
            super().__init__()
            self.keys, self.values, self.positions = keys, values, positions
            self.is_initialized = True

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            """It has its memory already."""

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
            rows = self.positions[None, None, :, None]
            self.keys = self.keys.scatter(2, rows.expand_as(key_states), key_states)
            self.values = self.values.scatter(2, rows.expand_as(value_states), value_states)
            return self.keys, self.values

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.keys.shape[2], 0

        def get_seq_length(self) -> int:
            return 0

        def get_max_length(self) -> int:
            return int(self.keys.shape[2])

    return Layer


def _rename(values: Any, names: list[str]) -> None:
    for value, name in zip(values, names, strict=True):
        value.name = name
