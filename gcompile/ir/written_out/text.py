"""Counts of n-grams, whose elements are whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer

_INT64 = onnx_ir.DataType.INT64

Results = Sequence[onnx_ir.Value | None] | None


def tfidf(writer: Writer) -> Results:
    """Count n-grams of whole numbers: each is compared with every place it may start at."""
    shape, attributes = writer.shape(0), writer.node.attributes
    pool = attributes.get_ints("pool_int64s", [])
    if shape is None or not pool:
        return None
    grams = _grams(writer, list(pool))
    columns = max(attributes.get_ints("ngram_indexes", [0])) + 1
    batch = shape[0] if len(shape) == 2 else 1
    rows = writer.op("Reshape", writer.cast(writer.input(0), _INT64),
                     writer.constant([batch, shape[-1]]))  # fmt: skip
    counts: dict[int, onnx_ir.Value] = {}
    for gram, column in grams:
        found = _occurrences(writer, rows, shape[-1], gram)
        if found is not None:
            counts[column] = writer.op("Add", counts[column], found) if column in counts else found
    none = writer.constant(np.zeros((batch, 1), np.float32))
    table = writer.op("Concat", *[counts.get(c, none) for c in range(columns)], axis=1)
    mode = writer.text("mode", "TF")
    weights = np.ones(columns, np.float32)
    given = attributes.get_floats("weights", [])
    if given and mode != "TF":
        for (_, column), weight in zip(grams, given, strict=True):
            weights[column] = weight
    if mode == "IDF":
        positive = writer.op("Greater", table, writer.number(0, onnx_ir.DataType.FLOAT))
        table = writer.cast(positive, onnx_ir.DataType.FLOAT)
    weighed = writer.op("Mul", table, writer.constant(weights))
    out = [columns] if len(shape) == 1 else [batch, columns]
    return [writer.op("Reshape", weighed, writer.constant(out))]


def _grams(writer: Writer, pool: list[int]) -> list[tuple[list[int], int]]:
    """Each n-gram that counts, in the order of the pool, and its column."""
    attributes = writer.node.attributes
    starts, columns = (
        list(attributes.get_ints(name, [])) for name in ("ngram_counts", "ngram_indexes")
    )
    grams = []
    for size, (start, end) in enumerate(
        zip(starts, [*starts[1:], len(pool)], strict=True), start=1
    ):
        grams += [pool[i : i + size] for i in range(start, end, size)]
    return list(zip(grams, columns, strict=True))


def _occurrences(
    writer: Writer, rows: onnx_ir.Value, length: int, gram: list[int]
) -> onnx_ir.Value | None:
    """How often an n-gram occurs in each row, with any number of elements skipped in between."""
    size, attributes = len(gram), writer.node.attributes
    if not writer.integer("min_gram_length", 1) <= size <= writer.integer("max_gram_length", 1):
        return None
    starts = [
        np.arange(length - (size - 1) * step)
        for step in range(1, attributes.get_int("max_skip_count", 0) + 2)
        if length > (size - 1) * step
    ][: 1 if size == 1 else None]
    if not starts:
        return None
    places = np.concatenate(
        [s[:, None] + np.arange(size) * step for step, s in enumerate(starts, start=1)]
    )
    picked = writer.op("Gather", rows, writer.constant(places), axis=1)
    equal = writer.op("Equal", picked, writer.constant(np.array(gram)))
    hits = writer.cast(equal, onnx_ir.DataType.FLOAT)
    whole = writer.op("ReduceMin", hits, writer.constant([2]), keepdims=0)
    return writer.op("ReduceSum", whole, writer.constant([1]), keepdims=1)


RULES = {"TfIdfVectorizer": tfidf}
