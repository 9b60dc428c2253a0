"""Find attention, softmax(scale · Q Kᵀ + mask) V, however an exporter wrote it."""

from gcompile.ir.attention.find import FoundAttention, attention_of, find_attention
from gcompile.ir.attention.vectors import (
    WHOLE,
    Mask,
    NotAttentionError,
    Reader,
    Rows,
    Stored,
    Vectors,
)

__all__ = [
    "WHOLE",
    "FoundAttention",
    "Mask",
    "NotAttentionError",
    "Reader",
    "Rows",
    "Stored",
    "Vectors",
    "attention_of",
    "find_attention",
]
