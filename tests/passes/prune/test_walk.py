from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.passes.precision.ranges.histogram import expose
from gcompile.passes.prune.walk import Walk
from tests.passes.precision.models import fused, rows_for

SHORTCUT = """
    g (float[1,3,6,6] x) => (float[1,4,3,3] y)
    <float[4,3,1,1] w0, float[4,3,3,3] w1, float[4,4,3,3] w2, float[4,4,1,1] w3> {
        r0 = Relu(x)
        c0 = Conv<strides = [2,2]>(r0, w0)
        c1 = Conv<pads = [1,1,1,1]>(r0, w1)
        r1 = Relu(c1)
        c2 = Conv<pads = [1,1,1,1], strides = [2,2]>(r1, w2)
        s2 = Add(c0, c2)
        r2 = Relu(s2)
        y = Conv(r2, w3)
    }"""
MODEL, RUN = fused(SHORTCUT), OnnxRuntime()
ROWS = rows_for(MODEL, 5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(("r0", "c0", "c1", "r1", "s2", "r2", "y")), max_size=8))
def test_stops_in_any_order_give_what_one_run_gives(stops: list[str]) -> None:
    expected = RUN.run_rows(expose(MODEL, stops), ROWS)
    walk = Walk(MODEL, ROWS, RUN)
    for index, stop in enumerate(stops):
        found = walk.go([stop], set(stops[index + 1 :]))[stop].astype(np.float32)
        want = expected[stop].astype(np.float32)
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
