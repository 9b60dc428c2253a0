"""Attention, however it is written, is one kernel where scores cost more, and gives the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import gcompile
from benchmarks.networks import draw_weights
from benchmarks.networks.transformers import bert, llama_layer, vision_transformer
from gcompile import ir
from gcompile.compiler import stages
from gcompile.passes.base import Pipeline
from gcompile.passes.fuse.fuse_attention import FuseAttention
from gcompile.passes.fuse.merge_launches import MergeLaunches
from tests.backends.tvm.lowering.attention_models import SHARED_KEYS, SHARING, projected
from tests.backends.tvm.lowering.compiling import Built, calibration_rows, check, operators, parse

_PLAIN = """
    kt = Transpose<perm = [0, 1, 3, 2]>(k)
    s = MatMul(q, kt)
    scaled = Mul(s, quarter)
    {mask}
    w = Softmax<axis = -1>(masked)
    o = MatMul(w, v)"""
_QUARTER = {"quarter": np.asarray(np.float32(0.25))}


@pytest.fixture(autouse=True)
def _small_ones_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of tests are small and would stay in memory by their price."""
    fused = Pipeline("algorithms", (FuseAttention(worth=1e9), MergeLaunches()))
    monkeypatch.setattr(stages, "ALGORITHMS", fused)


def _fused(model: ir.Model, precision: str | None = None, threads: int = 1) -> Built:
    built = check(model, precision, threads=threads)
    found = [op for op in operators(built.model) if "Softmax" in op]
    assert found
    assert all(op.count("MatMul") == 2 for op in found), found
    fused = [region.name for region in ir.regions(built.model.graph) if region.attention]
    assert not set(fused) & set(built.report.fallbacks)
    return built


def _network(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    draw_weights(proto)
    onnx.save(proto, folder / "network.onnx")
    return ir.load(folder / "network.onnx")


@pytest.mark.parametrize(
    ("network", "precision"),
    [("bert", "bf16"), ("bert", "fp16"), ("bert", "int8"), ("llama", None)],
)
def test_networks_have_one_kernel_for_attention(
    network: str, precision: str | None, tmp_path: Path
) -> None:
    proto = bert(1, 128, 50) if network == "bert" else llama_layer(128, 256, 50)
    _fused(_network(proto, tmp_path), precision, threads=2)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("tokens", [5, 50])
def test_machines_with_tiles_have_one_kernel_for_attention(tokens: int, precision: str) -> None:
    model = _of_tokens(tokens)
    calib = calibration_rows(model) if precision == "int8" else None
    built = gcompile.compile(model, "intel-xeon-8490h", precision=precision, calib=calib)
    found = [region for region in ir.regions(built.model.graph) if region.attention]
    assert [region.tile.unit for region in found if region.tile] == [f"amx-{precision}"]
    assert not {region.name for region in found} & set(built.report.fallbacks)


def test_a_vision_transformer_has_one_kernel_for_attention(tmp_path: Path) -> None:
    _fused(_network(vision_transformer(1, 128, classes=10), tmp_path))


@pytest.mark.parametrize(
    ("mask", "inputs", "declared", "constants"),
    [
        ("masked = Add(scaled, given)", ", float[2,1,1,20] given", "", {}),
        ("masked = Add(given, scaled)", ", float[4,20,20] given", "", {}),
        (
            "masked = Where(given, scaled, low)",
            ", bool[2,1,20,20] given",
            ", float low",
            {"low": np.asarray(np.float32(-1e4))},
        ),
        (
            """hidden = Where(given, low, scaled)
            masked = Add(hidden, bias)""",
            ", bool[20] given, float[1,4,20,20] bias",
            ", float low",
            {"low": np.asarray(np.float32(-50))},
        ),
        (
            "masked = Where(ahead, low, scaled)",
            "",
            ", bool[20,20] ahead, float low",
            {
                "ahead": np.triu(np.ones((20, 20), bool), 1),
                "low": np.asarray(np.float32(-np.inf)),
            },
        ),
    ],
)
def test_masks_are_added_or_hide(
    mask: str, inputs: str, declared: str, constants: dict[str, ir.Array]
) -> None:
    model = projected(
        _PLAIN.format(mask=mask),
        inputs=inputs,
        declared=", float quarter" + declared,
        constants={**_QUARTER, **constants},
    )
    _fused(model)


def test_queries_that_see_no_key_give_zeros_where_the_graph_says_so() -> None:
    body = """
        kt = Transpose<perm = [0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        added = Where(seen, zero, never)
        masked = Add(s, added)
        w = Softmax<axis = -1>(masked)
        missing = IsNaN(w)
        kept = Where(missing, zero, w)
        o = MatMul(kept, v)"""
    numbers = {"zero": np.float32(0), "never": np.float32(-np.inf)}
    seen = np.random.default_rng(0).random((2, 1, 20, 20)) < 0.5
    seen[:, :, 3] = False
    model = projected(
        body,
        declared=", float zero, float never, bool[2,1,20,20] seen",
        constants={"seen": seen} | {name: np.asarray(value) for name, value in numbers.items()},
    )
    _fused(model)


def test_heads_that_share_keys_read_them_once() -> None:
    body = f"""{SHARED_KEYS}
        scaled = Mul(s, quarter)
        masked = Add(scaled, given)
        w = Softmax<axis = -1>(masked)
        o = MatMul(w, vr)"""
    model = projected(
        body, key_heads=2, declared=f"{SHARING}, float quarter", inputs=", float[2,1,20,20] given",
        constants=_QUARTER,
    )  # fmt: skip
    built = _fused(model)
    assert not any("Expand" in op for op in operators(built.model))


def test_heads_of_one_packed_projection_are_read_where_it_wrote_them() -> None:
    text = """
        g (float[2,20,64] x) => (float[2,20,64] y)
        <float[64,192] wqkv, int64[5] split = {2, 20, 3, 4, 16}, int64 zero = {0},
         int64 one = {1}, int64 two = {2}, int64[3] join = {2, 20, 64}> {
            p = MatMul(x, wqkv)
            sp = Reshape(p, split)
            t = Transpose<perm = [2, 0, 3, 1, 4]>(sp)
            q = Gather<axis = 0>(t, zero)
            k = Gather<axis = 0>(t, one)
            v = Gather<axis = 0>(t, two)
            kt = Transpose<perm = [0, 1, 3, 2]>(k)
            s = MatMul(q, kt)
            w = Softmax<axis = -1>(s)
            o = MatMul(w, v)
            to = Transpose<perm = [0, 2, 1, 3]>(o)
            y = Reshape(to, join)
        }"""
    built = check(text)
    found = operators(built.model)
    assert any(op.count("MatMul") == 2 and op.count("Gather") == 3 for op in found), found


def test_keys_that_something_else_reads_stay_where_they_are() -> None:
    text = """
        g (float[1,30,2,16] q, float[1,30,2,16] k, float[1,30,2,16] v)
            => (float[1,2,30,16] y, float[1,2,30,16] past) {
            tq = Transpose<perm = [0, 2, 1, 3]>(q)
            past = Transpose<perm = [0, 2, 1, 3]>(k)
            tv = Transpose<perm = [0, 2, 1, 3]>(v)
            kt = Transpose<perm = [0, 1, 3, 2]>(past)
            s = MatMul(tq, kt)
            w = Softmax<axis = -1>(s)
            y = MatMul(w, tv)
        }"""
    built = check(text)
    found = operators(built.model)
    assert "Transpose" in found
    assert any(op.count("MatMul") == 2 for op in found), found


def test_weights_that_something_else_reads_stay_in_memory() -> None:
    text = """
        g (float[2,20,16] q, float[2,20,16] k, float[2,20,16] v)
            => (float[2,20,16] y, float[2,20,20] w) {
            kt = Transpose<perm = [0, 2, 1]>(k)
            s = MatMul(q, kt)
            w = Softmax<axis = -1>(s)
            y = MatMul(w, v)
        }"""
    built = check(text)
    assert not any(op.count("MatMul") == 2 for op in operators(built.model))


def _of_tokens(tokens: int) -> ir.Model:
    body = _PLAIN.format(mask="masked = Identity(scaled)")
    declared = ", float quarter"
    return projected(body, (1, tokens, 4, 16), declared=declared, constants=_QUARTER)


def test_scores_take_no_memory() -> None:
    built = check(_of_tokens(700))
    assert (built.report.peak_memory_bytes or 0) < 4 * 700 * 700 * 4


def _quantized(weights: str, constants: dict[str, ir.Array]) -> ir.Model:
    """Attention of bytes: `weights` makes p of the softmax w."""
    names = ("q", "k", "v")
    numbers = {f"{n}s": np.asarray(np.float32(0.02 + 0.001 * i)) for i, n in enumerate(names)}
    zeros = {f"{n}z": np.asarray(np.uint8(120 + 4 * i)) for i, n in enumerate(names)}
    declared = "".join(f", float {n}s, uint8 {n}z" for n in names)
    coded = "".join(
        f"""
            {n}b = QuantizeLinear({n}, {n}s, {n}z)
            {n}r = DequantizeLinear({n}b, {n}s, {n}z)"""
        for n in names
    )
    return parse(
        f"""
        g (float[2,3,50,16] q, float[2,3,70,16] k, float[2,3,70,16] v, float[2,1,1,70] mask)
            => (float[2,3,50,16] y)
        <float quarter, float ps, uint8 pz, int8 iz, float[1] none{declared}> {{{coded}
            kt = Transpose<perm = [0, 1, 3, 2]>(kr)
            s = MatMul(qr, kt)
            scaled = Mul(s, quarter)
            masked = Add(scaled, mask)
            w = Softmax<axis = -1>(masked)
            {weights}
            y = MatMul(p, vr)
        }}""",
        constants={**_QUARTER, **numbers, **zeros, "ps": np.asarray(np.float32(1 / 255)),
                   **constants},
    )  # fmt: skip


_UNSIGNED = "wb = QuantizeLinear(w, ps, pz)\n p = DequantizeLinear(wb, ps, pz)"
_SIGNED = _UNSIGNED.replace("pz", "iz")


@pytest.mark.parametrize(
    ("weights", "constants", "fused"),
    [
        (_UNSIGNED, {"pz": np.asarray(np.uint8(0))}, True),
        (_SIGNED, {"iz": np.asarray(np.int8(-128))}, True),
        (_UNSIGNED, {"pz": np.asarray(np.uint8(1))}, False),
        (_SIGNED, {"iz": np.asarray(np.int8(0))}, False),
        ("p = Identity(w)", {}, False),
    ],
)
def test_bytes_are_attended_to_as_the_graph_rounds_them(
    weights: str, constants: dict[str, ir.Array], fused: bool
) -> None:
    built = check(_quantized(weights, constants))
    found = [op for op in operators(built.model) if op.count("MatMul") == 2]
    assert len(found) == fused
    assert not built.report.fallbacks


def test_quantized_attention_gives_what_its_parts_give(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _of_tokens(150)
    fused = _fused(model, "int8")
    monkeypatch.setattr(stages, "ALGORITHMS", Pipeline("algorithms", (MergeLaunches(),)))
    parts = check(model, "int8")
    assert all(op.count("MatMul") < 2 for op in operators(parts.model))
    for name, array in parts.outputs.items():
        found, expected = fused.outputs[name].astype(np.float64), array.astype(np.float64)
        # Sums of exponentials are rounded in another order: few bytes are one step off, if any.
        np.testing.assert_allclose(found, expected, atol=0.02 * np.ptp(expected))
        assert np.mean(found == expected) > 0.9


def test_attention_of_floats_writes_bytes_where_the_graph_rounds_its_result() -> None:
    text = """
        g (float[2,50,16] q, float[2,70,16] k, float[2,70,16] v) => (float[2,50,16] y)
        <float s, uint8 z> {
            t = Transpose<perm = [0, 2, 1]>(k)
            p = MatMul(q, t)
            w = Softmax<axis = -1>(p)
            o = MatMul(w, v)
            b = QuantizeLinear(o, s, z)
            y = DequantizeLinear(b, s, z)
        }"""
    numbers: dict[str, ir.Array] = {
        "s": np.asarray(np.float32(0.02)),
        "z": np.asarray(np.uint8(120)),
    }
    built = check(parse(text, constants=numbers))
    assert "Transpose+MatMul+Softmax+MatMul+QuantizeLinear" in operators(built.model)
