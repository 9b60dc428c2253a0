"""What a kernel is asked to do, in plain data: images, expressions, and the product they follow.

The lowering writes these descriptions; the emitters turn each into one TensorIR function. Equal
descriptions give equal functions, so a description is also the key under which a kernel is shared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile


@dataclass(frozen=True, slots=True)
class Image:
    """How one tensor lies in memory: row-major (batch, height, width, channels) with a halo.

    The halo is the border (top, left, bottom, right) around each image, already filled with `fill`
    by the producer, so that a consumer that pads never checks a bound. Tensors of other ranks are
    seen as images too: an (M, K) matrix is the image (1, 1, M, K).

    Attributes:
        dtype: `float32`, `float16`, `bfloat16`, `uint8`, `int8` or `int32`. bfloat16 is stored as
            uint16, which is what generated code and Relax see.
        declared: The shape under which Relax knows the tensor when it is not the image's own; the
            number of elements is the same.
    """

    batch: int
    height: int
    width: int
    channels: int
    dtype: str = "float32"
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: float = 0.0
    declared: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The stored shape, halo included."""
        top, left, bottom, right = self.halo
        return (
            self.batch,
            top + self.height + bottom,
            left + self.width + right,
            self.channels,
        )

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """The shape under which Relax knows the tensor; a scalar's is empty."""
        return self.shape if self.declared is None else self.declared

    @property
    def storage_dtype(self) -> str:
        """The element type that memory and Relax see."""
        return "uint16" if self.dtype == "bfloat16" else self.dtype

    @property
    def size(self) -> int:
        """Stored elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Source:
    """An image an expression reads, pixel by pixel, at the place that is being written.

    A dimension of size 1 is broadcast. `scale` and `zero_point` turn stored integers into real
    numbers: real = (stored - zero_point) · scale.
    """

    image: Image
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class Accumulator:
    """The sum that the product, depthwise product or pool before the expression produced."""


@dataclass(frozen=True, slots=True)
class Load:
    """The real value of source number `index` at this pixel and channel."""

    index: int


@dataclass(frozen=True, slots=True)
class PerChannel:
    """Element `channel` of per-channel float32 vector number `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """The same real number everywhere."""

    value: float


@dataclass(frozen=True, slots=True)
class Unary:
    """A function of one value. `alpha` and `beta` are its ONNX attributes, where it has any.

    Functions: abs, neg, exp, log, sqrt, reciprocal, relu, clip (alpha = low, beta = high),
    leaky_relu (alpha), sigmoid, hard_sigmoid (alpha, beta), hard_swish, silu, tanh, erf, gelu,
    gelu_tanh, elu (alpha), selu (alpha, beta = gamma), softplus, mish, floor, ceil, round, sign,
    softsign, affine (alpha · x + beta), scaled_tanh (alpha · tanh(beta · x)), thresholded_relu
    (alpha), round_trip_bfloat16, round_trip_float16, is_nan (1 or 0).
    """

    function: str
    operand: Expression
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, slots=True)
class Binary:
    """A function of two values: add, sub, mul, div, max, min, pow; less, less_equal, equal.

    Comparisons give 1 or 0, and 0 where one side is NaN.
    """

    function: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Select:
    """`left` where the condition is not 0, else `right`, which may then be any number or none."""

    condition: Expression
    left: Expression
    right: Expression


Expression = Accumulator | Load | PerChannel | Constant | Unary | Binary | Select


@dataclass(frozen=True, slots=True)
class Output:
    """Where an expression is written, and how: stored = clip(round(real / scale) + zero_point).

    Float images take the real value itself (bfloat16 rounds to nearest even). Integer images
    saturate to the range of their type.
    """

    image: Image
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """The part all kernels share: an expression over sources, written to one output.

    The function's arguments are, in order: what the kernel kind itself reads (`x`, weights), the
    `channel_vectors` per-channel float32 vectors of length `output.image.channels`, the sources,
    and the output. All sizes are static.

    Attributes:
        vector_bits: Width of the vector registers code is written for (512, 256 or 128).
        threads: Tasks of the outermost parallel loop; 1 means no parallel launch at all.
    """

    output: Output
    expression: Expression
    sources: tuple[Source, ...] = ()
    channel_vectors: int = 0
    vector_bits: int = 256
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Panel:
    """Cache blocks of a large matrix product, whose sums wait in memory between them.

    Attributes:
        rows: Pixels of one panel.
        columns: Output channels of one panel: with `depth`, they should fit half the second-level
            cache.
        depth: Elements of depth of one panel: those of one register block of pixels should fit
            a third of the first-level cache.
    """

    rows: int
    columns: int
    depth: int


@dataclass(frozen=True, slots=True)
class ProductKernel(Kernel):
    """A contraction with packed constant weights, then the expression.

    With groups, each is a product of its own over a slice of the channels; groups of fewer output
    channels than a vector has lanes are better off in a `DepthwiseKernel`.

    `x` is read at its stored integers: for uint8 inputs the caller folds the zero point into a
    per-channel vector, and the halo of `x` is filled with the zero point, which makes padding
    exact. The accumulator is int32 for integer inputs and float32 otherwise; the expression sees
    it as float32.

    `x.channels` may exceed `contraction.in_c` (storage padded for the dot-product group); the
    packed weights of the extra channels are zero.

    Attributes:
        panel: How a product of a 1×1 window is blocked for the caches (see `panel_of`); None, or a
            larger window, passes over the whole depth at once.
        ahead: Steps of depth by which weights are asked for before they are needed (see
            `steps_ahead`); 0 leaves that to the hardware.
    """

    contraction: Contraction = Contraction.matmul(1, 1, 1)
    x: Image = Image(1, 1, 1, 1)
    tile: Tile = Tile("generic", 1, 1)
    panel: Panel | None = None
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class DepthwiseKernel(Kernel):
    """A convolution of narrow groups, mostly of one channel each, then the expression.

    For integer `x`, the zero point is subtracted by the caller through a per-channel vector as for
    `ProductKernel`. Weights are (kernel_h · kernel_w, channels) float32, or where a group reads
    several channels (kernel_h · kernel_w, channels of a group, output channels). They hold exact
    integers when `x` is an integer image; sums stay exact while |sum| < 2^24.
    """

    contraction: Contraction = Contraction.matmul(1, 1, 1)
    x: Image = Image(1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class PoolKernel(Kernel):
    """Max or average pooling, then the expression.

    `function` is `max` or `average`. The accumulator is the real maximum or mean of the window
    (`x_scale`, `x_zero_point` applied). `count_include_pad` divides by the whole window, otherwise
    by the pixels inside the image. Max pooling reads its halo, which the producer has filled with
    the lowest value; average pooling never reads outside the image.
    """

    contraction: Contraction = Contraction.matmul(1, 1, 1)
    x: Image = Image(1, 1, 1, 1)
    function: str = "max"
    count_include_pad: bool = False
    x_scale: float = 1.0
    x_zero_point: int = 0


@dataclass(frozen=True, slots=True)
class ElementwiseKernel(Kernel):
    """The expression alone: chains of elementwise operators, quantize, dequantize, casts."""


@dataclass(frozen=True, slots=True)
class DynamicQuantizeKernel:
    """Quantize float32 to uint8, with the scale and zero point that the tensor's range gives.

    Attributes:
        source_shape: The shape under which Relax knows what is read.
        shape: The shape under which it knows the integers; as many elements.
    """

    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    vector_bits: int = 256


@dataclass(frozen=True, slots=True)
class TransposeKernel:
    """Change layout: (N, C, H, W) to the image, or back, quantizing or casting on the way.

    `to_image` true reads the plain NCHW tensor `plain` and writes `image` with its halo (channels
    beyond the plain tensor's are written as zero); false reads the image and writes `plain`.
    Values are converted by `scale` and `zero_point` of the integer side.
    """

    plain_shape: tuple[int, int, int, int]
    plain_dtype: str
    image: Image
    to_image: bool
    scale: float = 1.0
    zero_point: int = 0
    vector_bits: int = 256
    threads: int = 1
    declared_plain: tuple[int, ...] | None = None


AnyKernel = Kernel | TransposeKernel | DynamicQuantizeKernel
