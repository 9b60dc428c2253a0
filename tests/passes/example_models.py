"""Small models that show what real ones hold, in ONNX text."""

from __future__ import annotations

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def _numbers(count: int, first: int = 0) -> str:
    """Numbers that differ, of both signs."""
    numbers = (((first + i) * 7 % 11 - 5) / 8 for i in range(count))
    return "{" + ", ".join(map(str, numbers)) + "}"


_NORM = f"""float[4] gamma = {{1.5, 0.5, -1.0, 2.0}}, float[4] beta = {_numbers(4)},
    float[4] mean = {{0.5, -1.0, 0.25, 0.0}}, float[4] var = {{4.0, 0.25, 1.0, 2.0}}"""

ATTENTION_OF_QKV = """
        q4 = Reshape(q, heads)
        k4 = Reshape(k, heads)
        v4 = Reshape(v, heads)
        qt = Transpose<perm = [0,2,1,3]>(q4)
        kt = Transpose<perm = [0,2,3,1]>(k4)
        vt = Transpose<perm = [0,2,1,3]>(v4)
        s = MatMul(qt, kt)
        p = Softmax(s)
        a = MatMul(p, vt)
        at = Transpose<perm = [0,2,1,3]>(a)
        a3 = Reshape(at, whole)
        o = MatMul(a3, wo)
        ob = Add(o, bo)
        y = Add(ob, x)
"""
"""From projections `q`, `k` and `v` of `x` to `y`, with `heads`, `whole`, `wo` and `bo`."""

TEXTS = {
    "dead_branch": """
        g (float[2,3] x) => (float[2,3] y) {
            unused = Neg(x)
            y = Relu(x)
        }""",
    "identities": """
        g (float[2,3] x) => (float[2,3] y, float[2,3] z)
        <float one = {1.0}, float[3] ones = {1.0, 1.0, 1.0}, float minus_zero = {-0.0}> {
            a = Identity(x)
            b = Dropout(a)
            c = Mul(b, one)
            d = Div(c, ones)
            e = Add(d, minus_zero)
            f = Neg(e)
            h = Neg(f)
            y = Relu(h)
            i = Tanh(x)
            z = Identity(i)
        }""",
    "conv_batch_norm": f"""
        g (float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[4,3,3,3] w = {_numbers(108)}, {_NORM}> {{
            c = Conv<pads = [1, 1, 1, 1]>(x, w)
            n = BatchNormalization(c, gamma, beta, mean, var)
            y = Relu(n)
        }}""",
    "residual": f"""
        g (float[1,4,6,6] x) => (float[1,4,6,6] y)
        <float[4,4,3,3] w = {_numbers(144)}, float[4] b = {_numbers(4)}, {_NORM}> {{
            c1 = Conv<pads = [1, 1, 1, 1]>(x, w, b)
            r1 = Relu(c1)
            c2 = Conv<pads = [1, 1, 1, 1]>(r1, w)
            n2 = BatchNormalization(c2, gamma, beta, mean, var)
            s = Add(n2, x)
            y = Relu(s)
        }}""",
    "two_convolutions_added": f"""
        g (float[1,4,6,6] x) => (float[1,4,3,3] y)
        <float[4,4,1,1] w1 = {_numbers(16)}, float[4,4,3,3] w = {_numbers(144)}> {{
            short = Conv<strides = [2, 2]>(x, w1)
            long = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w)
            s = Add(long, short)
            y = Relu(s)
        }}""",
    "depthwise": f"""
        g (float[1,4,6,6] x) => (float[1,4] y)
        <float[4,1,3,3] w = {_numbers(36)}, {_NORM}, int64[2] axes = {{2, 3}}, float six = {{6.0}},
         float low = {{0.0}}> {{
            c = Conv<pads = [1, 1, 1, 1], group = 4>(x, w)
            n = BatchNormalization(c, gamma, beta, mean, var)
            r = Clip(n, low, six)
            y = ReduceMean<keepdims = 0>(r, axes)
        }}""",
    "conv_transpose": f"""
        g (float[1,4,3,3] x) => (float[1,4,6,6] y)
        <float[4,2,2,2] w = {_numbers(32)}, {_NORM}> {{
            c = ConvTranspose<strides = [2, 2], group = 2>(x, w)
            n = BatchNormalization(c, gamma, beta, mean, var)
            y = Sigmoid(n)
        }}""",
    "silu": f"""
        g (float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[4,3,1,1] w = {_numbers(12)}, float[4,1,1] scale = {_numbers(4)},
         float[1,4,1,1] shift = {_numbers(4)}> {{
            c = Conv(x, w)
            m = Mul(c, scale)
            a = Add(m, shift)
            s = Sigmoid(a)
            y = Mul(a, s)
        }}""",
    "squeeze_and_excite": f"""
        g (float[2,4,6,6] x) => (float[2,4,6,6] y)
        <float[4,4,1,1] w = {_numbers(16)}> {{
            p = GlobalAveragePool(x)
            c = Conv(p, w)
            s = Sigmoid(c)
            r = Relu(x)
            y = Mul(r, s)
        }}""",
    "perceptron": f"""
        g (float[2,8] x) => (float[2,4] y)
        <float[8,6] w1 = {_numbers(48)}, float[6] b1 = {_numbers(6)},
         float[4,6] w2 = {_numbers(24)}, float[4] b2 = {_numbers(4)}, {_NORM}> {{
            m = MatMul(x, w1)
            a = Add(b1, m)
            r = Relu(a)
            h = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(r, w2, b2)
            n = BatchNormalization(h, gamma, beta, mean, var)
            y = Softmax(n)
        }}""",
    "attention": f"""
        g (float[1,6,8] x) => (float[1,6,8] y)
        <float[8,8] w = {_numbers(64)}, float[8] b = {_numbers(8)}, float root = {{2.0}},
         float sqrt2 = {{1.4142135}}, float half = {{0.5}}, float one = {{1.0}}> {{
            p = MatMul(x, w)
            q = Add(p, b)
            t = Transpose<perm = [0, 2, 1]>(x)
            k = MatMul(q, t)
            d = Div(k, root)
            a = Softmax(d)
            v = MatMul(a, x)
            e1 = Div(v, sqrt2)
            e2 = Erf(e1)
            e3 = Add(e2, one)
            e4 = Mul(v, e3)
            y = Mul(e4, half)
        }}""",
    "batch_norm_alone": f"""
        g (float[1,4,6,6] x) => (float[1,4,6,6] y) <{_NORM}> {{
            r = Relu(x)
            n = BatchNormalization(r, gamma, beta, mean, var)
            y = Tanh(n)
        }}""",
    "transposes": f"""
        g (float[1,4,6,5] x) => (float[1,4,6,5] y, float[1,6,5,4] z, float[1,1,6] v)
        <float[4,4,1,1] w = {_numbers(16)}, float half = {{0.5}}, int64[2] axes = {{1, 3}},
         int64[1] last = {{3}}> {{
            a = Transpose<perm = [0, 2, 3, 1]>(x)
            b = Relu(a)
            c = Mul(half, b)
            d = Transpose<perm = [0, 3, 1, 2]>(c)
            y = Conv(d, w)
            e = Transpose<perm = [0, 3, 1, 2]>(x)
            z = Transpose<perm = [0, 3, 1, 2]>(e)
            m = ReduceMax<keepdims = 1>(x, axes)
            t = Transpose<perm = [3, 1, 2, 0]>(m)
            i = Transpose<perm = [0, 1, 2, 3]>(t)
            v = Squeeze(i, last)
        }}""",
    "pads": f"""
        g (float[1,3,6,6] x) => (float[1,4,3,3] y)
        <float[4,3,3,3] w = {_numbers(108)}, int64[8] p = {{0, 0, 1, 1, 0, 0, 1, 1}},
         int64[4] q = {{1, 1, 1, 1}}, int64[2] axes = {{2, 3}}, float zero = {{0.0}}> {{
            a = Pad(x, p)
            c = Conv(a, w)
            r = Relu(c)
            b = Pad(r, q, zero, axes)
            m = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(b)
            d = Pad(m, q, zero, axes)
            y = AveragePool<kernel_shape = [3, 3]>(d)
        }}""",
    "shape_arithmetic": """
        g (float[1,4,6,6] x) => (float[1,8,3,3] y)
        <int64[1] one = {1}, int64 first = {0}, int64[1] six = {6}, int64[1] zero = {0},
         int64[1] two = {2}, int64[1] three = {3}, int64[2] zeros = {0, 0}> {
            h = Slice(x, zero, six, two, two)
            s = Slice(h, zero, six, three, two)
            shape = Shape(x)
            channels = Gather(shape, one)
            half = Div(channels, two)
            before = Concat<axis = 0>(zero, half, zeros)
            all = Concat<axis = 0>(before, before)
            y = Pad(s, all)
        }""",
    "reshapes": """
        g (float[2,3,4] x) => (float[2,3,4] y, float[24] z)
        <int64[2] a = {6, 4}, int64[3] b = {2, 3, 4}, int64[1] flat = {-1}, int64[1] zero = {0}> {
            r1 = Reshape(x, a)
            r2 = Reshape(r1, b)
            y = Relu(r2)
            u = Unsqueeze(y, zero)
            f = Flatten(u)
            z = Reshape(f, flat)
        }""",
    "casts": """
        g (float[2,3] x, uint8[2,3] q) => (float[2,3] y, float[2,3] z) {
            a = Cast<to = 1>(x)
            b = Cast<to = 11>(a)
            c = Cast<to = 1>(b)
            d = Cast<to = 10>(c)
            y = Cast<to = 1>(d)
            e = Cast<to = 6>(q)
            z = Cast<to = 1>(e)
        }""",
    "twins": """
        g (float[2,3] x) => (float[2,3] y, float[2,3] z)
        <float[3] b1 = {1.0, 2.0, 3.0}, float[3] b2 = {1.0, 2.0, 3.0}> {
            a1 = Add(x, b1)
            a2 = Add(x, b2)
            t1 = Tanh(a1)
            t2 = Tanh(a2)
            y = Mul(t1, t2)
            z = Tanh(a2)
        }""",
    "constant_if": """
        g (float[2,3] x) => (float[2,3] y) <bool yes = {1}, float[3] c = {1.0, 2.0, 3.0}> {
            r = Relu(x)
            i = If(yes) <
                then_branch = a () => (float[2,3] o) { t = Add(r, c) o = Neg(t) },
                else_branch = b () => (float[2,3] o) { t = Sub(r, c) o = Neg(t) }
            >
            y = Tanh(i)
        }""",
    "if_branches": f"""
        g (bool choose, float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[4,3,1,1] w = {_numbers(12)}, {_NORM}, float one = {{1.0}}> {{
            r = Relu(x)
            i = If(choose) <
                then_branch = a () => (float[1,4,6,6] o) {{
                    c = Conv(r, w)
                    n = BatchNormalization(c, gamma, beta, mean, var)
                    m = Mul(n, one)
                    o = Relu(m)
                }},
                else_branch = b () => (float[1,4,6,6] o) {{
                    t = Identity(r)
                    d = Conv(t, w)
                    o = Identity(d)
                }}
            >
            y = Tanh(i)
        }}""",
    "int8_form": f"""
        g (float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float s = {{0.05}}, uint8 z = {{128}},
         int8[4,3,1,1] wq = {{1, 2, 3, -4, 5, 6, 7, -8, 9, 1, 2, 3}},
         float[4] ws = {{0.01, 0.02, 0.03, 0.04}}, int8[4] wz = {{0, 0, 0, 0}},
         int8[4,4,1,1] vq = {{1, 2, 3, -4, 5, 6, 7, -8, 9, 1, 2, 3, 4, 5, 6, 7}},
         float[4] b = {_numbers(4)}> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear<axis = 0>(wq, ws, wz)
            c = Conv(d, w, b)
            r = Relu(c)
            rq = QuantizeLinear(r, s, z)
            rd = DequantizeLinear(rq, s, z)
            v = DequantizeLinear<axis = 0>(vq, ws, wz)
            e = Conv(rd, v)
            a = Add(e, rd)
            f = Relu(a)
            fq = QuantizeLinear(f, s, z)
            y = DequantizeLinear(fq, s, z)
        }}""",
    "int8_moves": """
        g (float[1,2,4,4] x) => (float[1,4,2,2] y)
        <float s = {0.05}, uint8 z = {128}, float s2 = {0.1}> {
            q = QuantizeLinear(x, s, z)
            d1 = DequantizeLinear(q, s, z)
            m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d1)
            mq = QuantizeLinear(m, s, z)
            d2 = DequantizeLinear(mq, s, z)
            d3 = DequantizeLinear(mq, s, z)
            k = Concat<axis = 1>(d2, d3)
            kq = QuantizeLinear(k, s, z)
            d4 = DequantizeLinear(kq, s, z)
            t = Transpose<perm = [0, 1, 3, 2]>(d4)
            tq = QuantizeLinear(t, s2, z)
            y = DequantizeLinear(tq, s2, z)
        }""",
    "bfloat16_form": f"""
        g (float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[4,3,1,1] w = {_numbers(12)}, float[4,4,1,1] v = {_numbers(16)}> {{
            xb = Cast<to = 16>(x)
            xf = Cast<to = 1>(xb)
            c = Conv(xf, w)
            r = Relu(c)
            rb = Cast<to = 16>(r)
            rf = Cast<to = 1>(rb)
            e = Conv(rf, v)
            a = Add(e, rf)
            ab = Cast<to = 16>(a)
            y = Cast<to = 1>(ab)
        }}""",
    "recurrent": f"""
        g (float[3,1,2] x) => (float[3,1,1,2] y)
        <float[1,6,2] w = {_numbers(12)}, float[1,6,2] r = {_numbers(12, 3)}> {{
            y = GRU<hidden_size = 2>(x, w, r)
        }}""",
    "split_and_argmax": """
        g (float[2,6] x) => (int64[2] y, float[2,3] z) {
            a, b = Split<axis = 1, num_outputs = 2>(x)
            c = Add(a, b)
            z = Relu(c)
            y = ArgMax<axis = 1, keepdims = 0>(z)
        }""",
}
