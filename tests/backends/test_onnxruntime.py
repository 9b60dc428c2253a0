from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime, large_weights, run, why_unavailable
from gcompile.backends.onnxruntime import rows as row_sessions
from gcompile.backends.onnxruntime.session import Optimization, run_session
from gcompile.errors import RunError

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model_of(body: str) -> ir.Model:
    return ir.parse(HEADER + body)


def test_it_is_available_and_telemetry_is_off() -> None:
    assert why_unavailable() is None
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_one_batch_runs_as_the_model_says() -> None:
    model = model_of("g (float[1,3] x) => (float[1,3] y) { y = Neg(x) }")
    out = run(model, {"x": np.array([[1, 2, 3]], np.float32)})
    np.testing.assert_array_equal(out["y"], [[-1, -2, -3]])


def test_bfloat16_passes_the_border_both_ways() -> None:
    model = model_of(
        "g (bfloat16[1,3] x) => (bfloat16[1,3] y)"
        " { w = Cast<to = 1>(x) n = Neg(w) y = Cast<to = 16>(n) }"
    )
    x = np.array([[1.5, -2.25, 1e-30]], ml_dtypes.bfloat16)
    out = run(model, {"x": x})
    assert out["y"].dtype == x.dtype
    np.testing.assert_array_equal(out["y"].astype(np.float32), -x.astype(np.float32))


@pytest.mark.parametrize(
    "body",
    [
        "g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }",
        """g (float[1,2,2] x) => (float[1,4] y) <int64[2] s = {1, 4}>
        { r = Reshape(x, s) y = Neg(r) }""",
        """g (float[1,2,2] x) => (float[1,4] y) <int64[2] s = {1, -1}>
        { r = Reshape(x, s) y = Neg(r) }""",
        "g (float[1,4] x) => (float[1,4] y) { y = Softmax<axis = 0>(x) }",
        "g (float[1,4] x) => (float y) { y = ReduceMean<keepdims = 0>(x) }",
        "g (float[1,4] x) => (float[4,1] y) { y = Transpose<perm = [1, 0]>(x) }",
        """g (float[1,4] x) => (float[1,4] y)
        { m = ReduceMax(x) y = Sub(x, m) }""",
    ],
)
def test_many_rows_give_what_each_row_gives_alone(body: str) -> None:
    model = model_of(body)
    shape = ir.static_shape(model.graph.inputs[0])
    rows = np.random.default_rng(0).standard_normal((7, *shape[1:])).astype(np.float32)
    runtime = OnnxRuntime()
    alone = [np.atleast_1d(runtime(model, {"x": row[None]})["y"]) for row in rows]
    np.testing.assert_array_equal(runtime(model, {"x": rows})["y"], np.concatenate(alone))


def test_rows_go_through_in_one_run_where_that_is_the_same() -> None:
    model = model_of("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    runtime = OnnxRuntime()
    runtime(model, {"x": np.ones((7, 4), np.float32)})
    (session,) = runtime._sessions.values()
    assert session.free is not None


def test_a_model_of_batch_two_takes_rows_in_pairs() -> None:
    model = model_of("g (float[2,3] x) => (float[2,3] y) { y = Neg(x) }")
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.testing.assert_array_equal(OnnxRuntime()(model, {"x": rows})["y"], -rows)


def test_a_scalar_is_the_same_for_all_rows() -> None:
    model = model_of("g (float[1,3] x, float s) => (float[1,3] y) { y = Mul(x, s) }")
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = OnnxRuntime()(model, {"x": rows, "s": np.array(2, np.float32)})
    np.testing.assert_array_equal(found["y"], 2 * rows)


def test_a_scalar_per_row_is_refused() -> None:
    model = model_of("g (float[1,3] x, float s) => (float[1,3] y) { y = Mul(x, s) }")
    with pytest.raises(RunError, match="'s' has shape"):
        run(model, {"x": np.ones((2, 3), np.float32), "s": np.ones(2, np.float32)})


def test_a_changed_model_is_not_mistaken_for_the_one_before() -> None:
    model = model_of("g (float[1,2] x) => (float[1,2] y) <float[1] w = {2.0}> { y = Mul(x, w) }")
    runtime, rows = OnnxRuntime(), {"x": np.ones((1, 2), np.float32)}
    assert runtime(model, rows)["y"].tolist() == [[2.0, 2.0]]
    weight = model.graph.initializers["w"]
    weight.const_value = ir.tensor(np.array([5.0], np.float32), name="w")
    assert runtime(model, rows)["y"].tolist() == [[5.0, 5.0]]


def test_sessions_are_kept_and_their_number_is_bounded() -> None:
    runtime = OnnxRuntime()
    for k in range(12):
        model = model_of(
            f"g (float[1,1] x) => (float[1,1] y) <float[1] w = {{{k}.0}}> {{ y = Mul(x, w) }}"
        )
        for _ in range(2):
            runtime(model, {"x": np.ones((1, 1), np.float32)})
    assert len(runtime._sessions) == 8


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "'x' is missing"),
        ({"x": np.ones((1, 5), np.float32)}, "'x' has shape"),
        ({"x": np.ones((0, 3), np.float32)}, "'x' has shape"),
        ({"x": np.ones((1, 3), np.float64)}, "ONNX Runtime failed"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, ir.Array], message: str) -> None:
    model = model_of("g (float[1,3] x) => (float[1,3] y) { y = Neg(x) }")
    with pytest.raises(RunError, match=message):
        run(model, inputs)


def test_inputs_with_different_numbers_of_rows_are_refused() -> None:
    model = model_of("g (float[1,3] a, float[1,3] b) => (float[1,3] y) { y = Add(a, b) }")
    rows = {"a": np.ones((2, 3), np.float32), "b": np.ones((3, 3), np.float32)}
    with pytest.raises(RunError, match="different numbers of rows"):
        run(model, rows)


def test_large_weights_are_mapped_from_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,64] x) => (float[1,48] y) '
        "{ y = MatMul(x, w) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    monkeypatch.setattr(large_weights, "_LARGE_BYTES", 1)
    model = ir.load(tmp_path / "m.onnx")
    x = np.ones((1, 64), np.float32)
    found = OnnxRuntime()(model, {"x": x})["y"]
    np.testing.assert_allclose(
        found.astype(np.float64), np.asarray(x @ weight), rtol=1e-5, atol=1e-5
    )
    ir.give_back_all(model)
    kept = ir.constant_array(model.graph.initializers["w"])
    assert kept is not None
    np.testing.assert_array_equal(kept, weight)


def test_pieces_run_side_by_side_as_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_sessions, "_OPERATIONS_AT_ONCE", 48)
    model = model_of(
        "g (float[1,3] x) => (float[1,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}>"
        " { y = MatMul(x, w) }"
    )
    rows = {"x": np.random.default_rng(0).standard_normal((29, 3)).astype(np.float32)}
    alone, together = (OnnxRuntime(side_by_side=count) for count in (1, 4))
    np.testing.assert_array_equal(together(model, rows)["y"], alone(model, rows)["y"])
    np.testing.assert_array_equal(
        together(model, rows)["y"],
        np.concatenate([run(model, {"x": x[None]})["y"] for x in rows["x"]]),
    )
    (session,) = together._sessions.values()
    assert session.at_once == 4


def test_a_family_that_is_proven_meanwhile_loses_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may prove a family between the start of a trial and its end."""
    model = model_of("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    runtime = OnnxRuntime()
    run_one = run_session

    def run_and_prove(opened: Any, feeds: Mapping[str, ir.Array]) -> dict[str, ir.Array]:
        runtime.proven.add(row_sessions.family_of(model))
        return run_one(opened, feeds)

    monkeypatch.setattr(row_sessions, "run_session", run_and_prove)
    rows = np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)
    np.testing.assert_array_equal(runtime(model, {"x": rows})["y"], np.maximum(rows, 0))


def test_several_threads_may_run_one_model() -> None:
    model = model_of("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    runtime = OnnxRuntime()
    rows = np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: runtime(model, {"x": rows})["y"], range(8)))
    assert all((each == np.maximum(rows, 0)).all() for each in found)


def test_what_its_optimizers_break_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some networks that other tools quantize make it write a graph that it refuses itself."""
    model = ir.parse(
        HEADER + "g (float[1,4] x) => (float[1,4] y) <float s = {0.5}> "
        "{ q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }"
    )
    real, opened = onnxruntime.InferenceSession, []

    def refuse_at_first(
        proto: bytes, options: onnxruntime.SessionOptions, providers: list[str]
    ) -> object:
        opened.append(options)
        if len(opened) == 1:
            raise RuntimeError("output_dtype INT8 does not match y_zero_point type UINT8")
        return real(proto, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse_at_first)
    x = np.array([[0.3, 1.0, -7.0, 60.0]], np.float32)
    found = OnnxRuntime(optimization=Optimization.ALL)(model, {"x": x})["y"]
    np.testing.assert_array_equal(found, [[0.5, 1.0, 0.0, 60.0]])
    assert opened[-1].get_session_config_entry("session.disable_quant_qdq") == "1"
    assert len(opened) == 2
