"""Small models that our own kernels take whole, by what they show.

Constants without numbers are drawn when a model is parsed.
"""

from __future__ import annotations

CONVOLUTIONS = {
    "pads that differ on every side": """
        g (float[1,3,7,9] x) => (float[1,10,4,4] y) <float[10,3,3,3] w, float[10] b>
        { y = Conv<pads = [1,0,1,0], strides = [2,2]>(x, w, b) }""",
    "steps of two between taps": """
        g (float[1,5,9,8] x) => (float[1,10,5,8] y) <float[10,5,3,3] w>
        { y = Conv<pads = [0,2,0,2], dilations = [2,2]>(x, w) }""",
    "windows that are not square": """
        g (float[1,2,9,8] x) => (float[1,6,9,4] y) <float[6,2,1,5] w>
        { y = Conv<pads = [0,3,0,1], strides = [1,2]>(x, w) }""",
    "more padding at the end": """
        g (float[1,1,7,8] x) => (float[1,10,4,4] y) <float[10,1,4,4] w>
        { y = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w) }""",
    "more padding at the start": """
        g (float[1,1,7,8] x) => (float[1,10,4,4] y) <float[10,1,4,4] w>
        { y = Conv<auto_pad = "SAME_LOWER", strides = [2,2]>(x, w) }""",
    "channels beyond four are padded in memory": """
        g (float[2,5,6,6] x) => (float[2,7,6,6] y)
        <float[10,5,3,3] w, float[10] b, float[7,10,3,3] v> {
            c = Conv<pads = [1,1,1,1]>(x, w, b)
            r = Relu(c)
            y = Conv<pads = [1,1,1,1]>(r, v)
        }""",
    "two channels": """
        g (float[2,2,6,6] x) => (float[2,3,6,6] y) <float[2,2,3,3] w, float[3,2,1,1] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            y = Conv(c, v)
        }""",
    "over one axis": """
        g (float[1,3,20] x) => (float[1,6,10] y) <float[8,3,5] w, float[8] b, float[6,8,3] v> {
            c = Conv<pads = [2,2]>(x, w, b)
            r = Relu(c)
            y = Conv<pads = [1,1], strides = [2]>(r, v)
        }""",
    "one axis, then two, then one": """
        g (float[1,3,1,12] x) => (float[1,5,1,12] y)
        <float[8,3,1,3] w, int64[1] axis = {2}, float[4,8,3] v, float[5,4,1,3] u> {
            c = Conv<pads = [0,1,0,1]>(x, w)
            s = Squeeze(c, axis)
            d = Conv<pads = [1,1]>(s, v)
            e = Unsqueeze(d, axis)
            y = Conv<pads = [0,1,0,1]>(e, u)
        }""",
    "an axis added where no image has one": """
        g (float[1,3,12] x) => (float[1,5,12,1] y)
        <float[8,3,3] w, int64[1] axis = {3}, float[5,8,3,1] v> {
            c = Conv<pads = [1,1]>(x, w)
            e = Unsqueeze(c, axis)
            y = Conv<pads = [1,0,1,0]>(e, v)
        }""",
    "depthwise": """
        g (float[1,6,7,7] x) => (float[1,6,4,4] y) <float[6,1,3,3] w, float[6] b> {
            c = Conv<pads = [1,1,1,1], strides = [2,2], group = 6>(x, w, b)
            y = Relu(c)
        }""",
    "depthwise over one axis": """
        g (float[1,6,9] x) => (float[1,6,9] y) <float[6,1,3] w>
        { y = Conv<pads = [1,1], group = 6>(x, w) }""",
    "a residual": """
        g (float[1,8,6,6] x) => (float[1,8,6,6] y)
        <float[8,8,3,3] w, float[8] b, float[8,8,3,3] v> {
            c = Conv<pads = [1,1,1,1]>(x, w, b)
            r = Relu(c)
            d = Conv<pads = [1,1,1,1]>(r, v)
            s = Add(d, x)
            y = Relu(s)
        }""",
    "channels scaled by what they hold": """
        g (float[2,6,6,6] x) => (float[2,6,6,6] y)
        <float[6,6,3,3] k, float[4,6,1,1] w, float[6,4,1,1] v> {
            r = Conv<pads = [1,1,1,1]>(x, k)
            p = GlobalAveragePool(r)
            c = Conv(p, w)
            q = Relu(c)
            d = Conv(q, v)
            s = Sigmoid(d)
            y = Mul(r, s)
        }""",
    "pixels scaled by what they hold": """
        g (float[1,8,6,6] x) => (float[1,8,6,6] y) <float[8,8,3,3] k, float[1,8,1,1] w> {
            r = Conv<pads = [1,1,1,1]>(x, k)
            c = Conv(r, w)
            s = Sigmoid(c)
            y = Mul(r, s)
        }""",
    "two paddings of one value": """
        g (float[1,3,8,8] x) => (float[1,8,8,8] y, float[1,8,4,4] z)
        <float[8,3,3,3] w, float[8,8,3,3] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            y = Conv<pads = [1,1,1,1]>(c, v)
            z = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(c)
        }""",
    "a window clipped on one side only": """
        g (float[1,3,6,6] x) => (float[1,7,6,6] y)
        <float[6,3,3,3] w, float[6,6,3,3] v, float[7,6,3,3] u, float zero = {0.0},
         float half = {0.5}> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            low = Clip(c, zero)
            d = Conv<pads = [1,1,1,1]>(low, v)
            high = Clip(d, , half)
            y = Conv<pads = [1,1,1,1]>(high, u)
        }""",
}

POOLS = {
    "the largest of negative numbers": """
        g (float[1,4,7,7] x) => (float[1,4,4,4] y) {
            a = Abs(x)
            n = Neg(a)
            y = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(n)
        }""",
    "the largest of windows that reach out": """
        g (float[1,5,8,8] x) => (float[1,5,4,4] y)
        { y = MaxPool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(x) }""",
    "the largest, every second pixel": """
        g (float[1,5,9,9] x) => (float[1,5,5,5] y)
        { y = MaxPool<kernel_shape = [3,3], dilations = [2,2]>(x) }""",
    "the largest over one axis": """
        g (float[1,3,9] x) => (float[1,3,5] y)
        { y = MaxPool<kernel_shape = [3], pads = [1,1], strides = [2]>(x) }""",
    "means without the padding": """
        g (float[1,3,8,7] x) => (float[1,3,5,4] y) {
            y = AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1],
                            ceil_mode = 1>(x)
        }""",
    "means with the padding": """
        g (float[1,3,8,7] x) => (float[1,3,5,4] y) {
            y = AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1],
                            ceil_mode = 1, count_include_pad = 1>(x)
        }""",
    "the mean of everything, then a product": """
        g (float[2,3,4,5] x) => (float[2,5] y) <float[6,3,3,3] w, float[6,5] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            p = GlobalAveragePool(c)
            f = Flatten(p)
            y = Gemm(f, v)
        }""",
    "the largest of everything": """
        g (float[2,6,4,5] x) => (float[2,6] y) { p = GlobalMaxPool(x) y = Flatten(p) }""",
    "a mean that keeps its axes": """
        g (float[2,6,4,5] x) => (float[2,6,1,1] y) <int64[2] axes = {2, 3}>
        { m = ReduceMean<keepdims = 1>(x, axes) y = Relu(m) }""",
    "a mean that drops its axes": """
        g (float[2,8,4,4] x, float[2,8] t) => (float[2,3] y)
        <int64[2] axes = {2, 3}, float[8] k, float[8,3] w> {
            m = ReduceMean<keepdims = 0>(x, axes)
            s = Mul(m, k)
            a = Add(s, t)
            y = MatMul(a, w)
        }""",
}

PRODUCTS = {
    "layers of a perceptron": """
        g (float[2,7] x) => (float[2,10] y) <float[7,9] w, float[9] b, float[9,10] v> {
            a = Gemm(x, w, b)
            r = Relu(a)
            y = Gemm(r, v)
        }""",
    "a transposed weight, scaled, with one number added": """
        g (float[3,6] x) => (float[3,5] y) <float[5,6] w, float b = {0.7}>
        { y = Gemm<alpha = 0.5, beta = 2.0, transB = 1>(x, w, b) }""",
    "a bias of one row": """
        g (float[3,6] x) => (float[3,5] y) <float[6,5] w, float[1,5] b>
        { y = Gemm<alpha = 2.0, beta = 0.5>(x, w, b) }""",
    "three axes": """
        g (float[2,3,6] x) => (float[2,3,5] y) <float[6,5] w, float[5] b>
        { m = MatMul(x, w) y = Add(m, b) }""",
    "four axes": """
        g (float[2,2,3,6] x) => (float[2,2,3,5] y) <float[6,5] w>
        { m = MatMul(x, w) y = Tanh(m) }""",
    "a vector": "g (float[6] x) => (float[5] y) <float[6,5] w> { y = MatMul(x, w) }",
}

MOVES = {
    "channels joined": """
        g (float[1,3,6,6] x) => (float[1,8,6,6] y)
        <float[4,3,3,3] w, float[8,3,3,3] v, float[8,12,3,3] u> {
            a = Conv<pads = [1,1,1,1]>(x, w)
            b = Conv<pads = [1,1,1,1]>(x, v)
            c = Concat<axis = 1>(a, b)
            y = Conv<pads = [1,1,1,1]>(c, u)
        }""",
    "channels last in and out": """
        g (float[2,6,6,5] x) => (float[2,6,6,8] y) <float[8,5,3,3] w> {
            t = Transpose<perm = [0,3,1,2]>(x)
            c = Conv<pads = [1,1,1,1]>(t, w)
            r = Relu(c)
            y = Transpose<perm = [0,2,3,1]>(r)
        }""",
    "channels last over one axis": """
        g (float[1,9,3] x) => (float[1,9,6] y) <float[6,3,3] w> {
            t = Transpose<perm = [0,2,1]>(x)
            c = Conv<pads = [1,1]>(t, w)
            y = Transpose<perm = [0,2,1]>(c)
        }""",
    "an image as one row": """
        g (float[1,3,4,4] x) => (float[1,5] y) <float[6,3,3,3] w, float[96,5] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            f = Flatten(c)
            y = Gemm(f, v)
        }""",
    "an image in another shape": """
        g (float[2,3,4,4] x) => (float[2,4,24] y) <float[6,3,3,3] w, int64[3] shape = {2, 4, 24}> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            y = Reshape(c, shape)
        }""",
    "channels shuffled": """
        g (float[1,3,6,6] x) => (float[1,8,6,6] y)
        <float[8,3,1,1] w, int64[5] pairs = {1, 2, 4, 6, 6}, int64[4] whole = {1, 8, 6, 6}> {
            c = Conv(x, w)
            a = Reshape(c, pairs)
            b = Transpose<perm = [0,2,1,3,4]>(a)
            y = Reshape(b, whole)
        }""",
    "rows and columns exchanged between convolutions": """
        g (float[1,3,6,5] x) => (float[1,7,5,6] y) <float[6,3,3,3] w, float[7,6,3,3] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            t = Transpose<perm = [0,1,3,2]>(c)
            y = Conv<pads = [1,1,1,1]>(t, v)
        }""",
}

BROADCASTS = {
    "single numbers of every rank": """
        g (float[1,8,6,6] x, float s, float[1] t, float[1,1,1,1] u) => (float[1,8,6,6] y)
        <float[8,8,3,3] k> {
            r = Conv<pads = [1,1,1,1]>(x, k)
            a = Mul(r, s)
            b = Add(a, t)
            y = Mul(b, u)
        }""",
    "single numbers and rows": """
        g (float[2,8] x, float s, float[1,1] t, float[8] u) => (float[2,8] y)
        { a = Mul(x, s) b = Add(a, t) y = Mul(b, u) }""",
    "one number per channel of one axis": """
        g (float[1,6,9] x, float[1,6,1] s) => (float[1,6,9] y) <float[6,6,3] k>
        { r = Conv<pads = [1,1]>(x, k) y = Mul(r, s) }""",
    "numbers that came as bytes": """
        g (uint8[1,6,6,3] x) => (float[1,8,6,6] y)
        <float[8,3,3,3] k, float most = {255.0}, float[3] mean = {0.4, 0.5, 0.6}> {
            f = Cast<to = 1>(x)
            d = Div(f, most)
            e = Sub(d, mean)
            t = Transpose<perm = [0,3,1,2]>(e)
            y = Conv<pads = [1,1,1,1]>(t, k)
        }""",
}

MODELS = CONVOLUTIONS | POOLS | PRODUCTS | MOVES | BROADCASTS
