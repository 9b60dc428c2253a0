from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import UsageError
from gcompile.passes.prune.kernels import Window, best_windows, shrink, shrinkable
from gcompile.passes.prune.prune_kernels import PruneKernels
from tests.passes.precision.models import context, fused, rows_for, signal_to_noise_db
from tests.passes.prune.test_prune_blocks import RESIDUAL

RUN = OnnxRuntime()


def single(kernel: tuple[int, int], pads: tuple[int, ...], stride: int, dilation: int) -> ir.Model:
    """One convolution of an image of 11 by 12."""
    height = (11 + pads[0] + pads[2] - dilation * (kernel[0] - 1) - 1) // stride + 1
    width = (12 + pads[1] + pads[3] - dilation * (kernel[1] - 1) - 1) // stride + 1
    return fused(
        f"""g (float[1,3,11,12] x) => (float[1,4,{height},{width}] y)
        <float[4,3,{kernel[0]},{kernel[1]}] w, float[4] b> {{
            y = Conv<pads = {list(pads)}, strides = [{stride}, {stride}],
                     dilations = [{dilation}, {dilation}]>(x, w, b)
        }}"""
    )


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.integers(1, 2),
    st.integers(1, 2),
    st.data(),
)
def test_a_smaller_kernel_is_one_with_zeros(
    kernel: tuple[int, int], pads: tuple[int, ...], stride: int, dilation: int, data: st.DataObject
) -> None:
    model = single(kernel, pads, stride, dilation)
    rows = rows_for(model, 4)
    chosen = shrinkable(model)
    taps = kernel[0] * kernel[1]
    shares = [count / taps for count in range(1, taps)]
    found = [w for each in best_windows(model, chosen, shares, rows, RUN).values() for w in each]
    if not found:
        return
    window = data.draw(st.sampled_from(found))
    zeroed = model.clone()
    weight = zeroed.graph.initializers["w"]
    array = np.asarray(ir.constant_array(weight), np.float32)
    mask = np.zeros_like(array)
    rows_kept = slice(window.top, window.top + window.height)
    mask[:, :, rows_kept, window.left : window.left + window.width] = 1
    weight.const_value = ir.tensor(array * mask, name="w")
    assert shrink(model, {chosen[0].name: window}) == [chosen[0].name]
    ir.verify(model)
    got, want = (RUN.run_rows(m, rows)["y"].astype(np.float32) for m in (model, zeroed))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_window_loses_what_least_squares_leave() -> None:
    model = single((3, 3), (1, 1, 1, 1), 1, 1)
    rows = rows_for(model, 32)
    rows["x"] = np.cumsum(rows["x"].astype(np.float32), axis=3) / 4  # Neighbours are alike.
    ((name, (window,)),) = best_windows(model, shrinkable(model), (0.67,), rows, RUN).items()
    assert (window.height, window.width, window.taps) == (3, 2, 6)
    small = model.clone()
    shrink(small, {name: window})
    whole = RUN.run_rows(model, rows)["y"].astype(np.float64)
    padded = np.pad(rows["x"], ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    kept = patches[..., window.top :, window.left : window.left + 2].transpose(0, 2, 3, 1, 4, 5)
    inputs = kept.reshape(-1, 3 * 6)
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    outputs = whole.transpose(0, 2, 3, 1).reshape(-1, 4)
    left = outputs - inputs @ np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    share = (left**2).sum() / ((outputs - outputs.mean(0)) ** 2).sum()
    assert window.error == pytest.approx(share, rel=0.05)


def test_it_keeps_its_contract() -> None:
    model = fused(RESIDUAL)
    record = testing.check_pass(PruneKernels(), model, ctx=context(model, rows=64))
    assert record.changed == 5
    assert record.after.total.energy_j < record.before.total.energy_j


def test_refitted_weights_lose_less_than_those_that_were_cut() -> None:
    whole, model = fused(RESIDUAL), fused(RESIDUAL)
    ctx = context(whole, rows=64)
    assert PruneKernels(kernels=("Conv_c1", "Conv_c2")).run(model, ctx) == 2
    cut = whole.clone()
    products = {p.name: p for p in shrinkable(model)}
    assert ctx.calibration is not None
    chosen = [p for p in shrinkable(whole) if p.name in ("Conv_c1", "Conv_c2")]
    found = best_windows(whole, chosen, (0.67,), ctx.calibration, RUN)
    shrink(cut, {name: best[0] for name, best in found.items()})
    assert ir.static_shape(products["Conv_c1"].weight)[2:] in ((3, 2), (2, 3))
    rows = rows_for(whole, 64, seed=7)
    want, refitted, plain = (RUN.run_rows(m, rows)["y"] for m in (whole, model, cut))
    assert signal_to_noise_db(want, refitted) > signal_to_noise_db(want, plain) + 1


def test_shares_count_from_the_first_size() -> None:
    model = fused(RESIDUAL)
    ctx = context(model, rows=24)
    assert PruneKernels(keep=0.67).run(model, ctx) == 5
    assert PruneKernels(keep=0.67).run(model, ctx) == 0
    assert PruneKernels(keep=0.34).run(model, ctx) == 5


def test_taps_go_only_where_the_image_is_padded() -> None:
    assert not shrinkable(single((3, 3), (0, 0, 0, 0), 1, 1))
    model = single((3, 3), (0, 0, 1, 0), 1, 1)
    ((name, found),) = best_windows(
        model, shrinkable(model), (0.67,), rows_for(model, 4), RUN
    ).items()
    assert [(w.top, w.left, w.height, w.width) for w in found] == [(0, 0, 2, 3)]
    with pytest.raises(UsageError, match="has no kernels to make smaller at c9"):
        PruneKernels(kernels=("c9",)).run(model, context(model))
    with pytest.raises(UsageError, match="must be above 0"):
        PruneKernels(keep=0.0)
    assert Window(0, 0, 2, 3).taps == 6
    assert name
