"""What follows the sums of a product: an expression over them, stored pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gcompile.backends.cuda.kernels.activation import UNARY, binary, maximum, minimum
from gcompile.backends.cuda.kernels.numbers import (
    AT_ONCE,
    INTEGERS,
    load_numbers,
    number,
    numbers_buffer,
    stored_integer,
)
from gcompile.backends.cuda.program.operations import DType
from gcompile.backends.cuda.program.program import (
    Buffer,
    For,
    Let,
    LoadGlobal,
    Registers,
    Set,
    Statement,
    Storage,
    StoreGlobal,
)
from gcompile.backends.cuda.program.scalar import Scalar, apply, register, select, variable
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Image,
    Load,
    Output,
    PerChannel,
    Select,
    Source,
    Unary,
)

_LARGEST_ACCESS = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where an element of the output lies.

    Attributes:
        pixel: Number of the output pixel, images included.
        channel: Its channel, the first of those that are handled together.
    """

    pixel: Scalar
    channel: Scalar


@dataclass(frozen=True)
class Epilogue:
    """An expression over the sums, and where it goes.

    Attributes:
        output: The image that is written; it has no halo here.
        expression: Over `Accumulator`, the sources and the channel vectors.
        sources: Images of the output's shape, or of size 1 where they are broadcast; no halo.
        channel_vectors: How many float32 vectors there are, of one number for each channel.
        numbers: How many float32 numbers there are that hold for all channels, a multiple of 4.
            They are an argument and not part of the text, so that layers that differ in them
            alone share a kernel. `PerChannel` counts them after the vectors.
        zero_point: Which of the numbers is the output's zero point; None where the text has it.
    """

    output: Output
    expression: Expression
    sources: tuple[Source, ...] = ()
    channel_vectors: int = 0
    numbers: int = 0
    zero_point: int | None = None

    def __post_init__(self) -> None:
        if self.numbers % AT_ONCE:
            raise ValueError(f"Numbers are loaded {AT_ONCE} at once.")
        if any(any(i.halo) for i in (self.output.image, *(s.image for s in self.sources))):
            raise ValueError("Images on a GPU have no halo: kernels check the border themselves.")

    @property
    def written(self) -> Buffer:
        """The output's memory."""
        return _buffer("y", self.output.image, written=True)

    @property
    def read(self) -> tuple[Buffer, ...]:
        """Channel vectors, the numbers if there are any, then sources."""
        channels = self.output.image.channels
        vectors = (Buffer(f"vector{i}", "float32", channels) for i in range(self.channel_vectors))
        numbers = (numbers_buffer(self.numbers),) if self.numbers else ()
        return (*vectors, *numbers, *self._images)

    @property
    def _images(self) -> tuple[Buffer, ...]:
        return tuple(_buffer(f"source{i}", s.image) for i, s in enumerate(self.sources))

    @property
    def element_bytes(self) -> float:
        """Bytes that are written and read for each element of the output."""
        size = self.output.image.size
        images = sum(b.elements * b.element_bytes for b in self._images)
        return self.written.element_bytes + images / size

    def values(self, place: Place, targets: Sequence[Scalar]) -> list[Statement]:
        """Evaluate the expression for consecutive channels of one pixel into float32 registers."""
        return _Emission(self, place, targets).values()

    def statements(self, place: Place, sums: Sequence[Scalar]) -> list[Statement]:
        """Evaluate the expression for consecutive channels of one pixel and store it.

        Args:
            place: The pixel and the first channel; the number of sums divides the channel, and the
                channels of the image.
            sums: One register for each channel: float32, or int32.
        """
        return _Emission(self, place, sums).statements()


def _buffer(name: str, image: Image, written: bool = False) -> Buffer:
    return Buffer(name, _storage(image), image.size, written)


def _storage(image: Image) -> Storage:
    match image.dtype:
        case "float32" | "float16" | "bfloat16" | "int32" | "int8" | "uint8":
            return image.dtype
    raise ValueError(f"No kernel stores {image.dtype}.")


def pieces(count: int, element_bytes: int) -> list[tuple[int, int]]:
    """Cut consecutive elements into accesses of 16 bytes at most: (first, count)."""
    width = min(count, _LARGEST_ACCESS // element_bytes)
    return [(start, width) for start in range(0, count, width)]


@dataclass
class _Emission:
    epilogue: Epilogue
    place: Place
    sums: Sequence[Scalar]
    lets: list[Statement] = field(default_factory=list)
    known: dict[Expression, Scalar] = field(default_factory=dict)

    def values(self) -> list[Statement]:
        result, element = self._loads(), variable("element")
        value = self._value(self.epilogue.expression)
        target = register(str(self.sums[0].value), element, "float32")
        body = (*self.lets, Set(target, value))
        return [*result, For("element", len(self.sums), body, unrolled=True)]

    def _loads(self) -> list[Statement]:
        vectors = self.epilogue.channel_vectors
        result = load_numbers(self.epilogue.numbers)
        for i, buffer in enumerate(self.epilogue.read[:vectors]):
            result += self._load(f"v{i}", buffer, self.place.channel)
        images = self.epilogue.read[len(self.epilogue.read) - len(self.epilogue.sources) :]
        for i, (source, buffer) in enumerate(zip(self.epilogue.sources, images, strict=True)):
            index = self._index(source.image)
            result += self._load(f"s{i}", buffer, index, broadcast=source.image.channels == 1)
        return result

    def statements(self) -> list[Statement]:
        result = self._loads()
        output = self.epilogue.output
        integer = output.image.dtype in ("int8", "uint8", "int32")
        count = len(self.sums)
        result.append(Registers("result", "int32" if integer else "float32", count))
        element = variable("element")
        stored = self._from_real(self._value(self.epilogue.expression))
        body = (*self.lets, Set(register("result", element, stored.dtype), stored))
        result.append(For("element", count, body, unrolled=True))
        written = self.epilogue.written
        index = self._index(output.image)
        for start, width in pieces(count, written.element_bytes):
            values = tuple(register("result", start + i, stored.dtype) for i in range(width))
            result.append(StoreGlobal(written, index + start, values))
        return result

    def _load(
        self, name: str, buffer: Buffer, index: Scalar, broadcast: bool = False
    ) -> list[Statement]:
        count = 1 if broadcast else len(self.sums)
        dtype: DType = "int32" if "int" in buffer.storage else "float32"
        result: list[Statement] = [Registers(name, dtype, count)]
        for start, width in pieces(count, buffer.element_bytes):
            targets = tuple(register(name, start + i, dtype) for i in range(width))
            result.append(LoadGlobal(targets, buffer, index + start))
        return result

    def _index(self, image: Image) -> Scalar:
        """Index of the first channel in an image of the output's shape, or broadcast to it."""
        out = self.epilogue.output.image
        channel = self.place.channel if image.channels > 1 else self.place.channel * 0
        if (image.batch, image.height, image.width) == (out.batch, out.height, out.width):
            return self.place.pixel * image.channels + channel
        pixel = self.place.pixel
        y, x = pixel // out.width % out.height, pixel % out.width
        row = (pixel // (out.height * out.width) if image.batch > 1 else pixel * 0) * image.height
        row = row + (y if image.height > 1 else 0)
        return (row * image.width + (x if image.width > 1 else 0)) * image.channels + channel

    def _value(self, node: Expression) -> Scalar:
        if node not in self.known:
            value = self._emit(node)
            name = f"e{len(self.known)}"
            self.lets.append(Let(name, value))
            self.known[node] = variable(name, value.dtype)
        return self.known[node]

    def _emit(self, node: Expression) -> Scalar:
        element = variable("element")
        match node:
            case Accumulator():
                name, dtype = str(self.sums[0].value), self.sums[0].dtype
                total = register(name, element, dtype)
                return apply("int_to_float", total) if dtype == "int32" else total
            case Load(index):
                source = self.epilogue.sources[index]
                at = element if source.image.channels > 1 else element * 0
                return _to_real(source, f"s{index}", at)
            case PerChannel(index) if index >= self.epilogue.channel_vectors:
                return number(index - self.epilogue.channel_vectors)
            case PerChannel(index):
                return register(f"v{index}", element, "float32")
            case Constant(value):
                return Scalar("constant", "float32", (), value)
            case Unary(function, operand, alpha, beta):
                return UNARY[function](self._value(operand), alpha, beta)
            case Binary(function, left, right):
                return binary(function, self._value(left), self._value(right))
            case Select(condition, left, right):
                holds = apply("differs", self._value(condition), 0.0)
                return select(holds, self._value(left), self._value(right))

    def _from_real(self, real: Scalar) -> Scalar:
        """Round to the stored type: to nearest, ties to even; integers saturate.

        Integers are scaled by the reciprocal of `scale`, as on the CPU.
        """
        output = self.epilogue.output
        dtype = output.image.dtype
        if dtype.startswith(("float", "bfloat")):
            return real
        scaled = real if output.scale == 1.0 else apply("fmul", real, 1.0 / output.scale)
        if self.epilogue.zero_point is not None:
            return stored_integer(scaled, dtype, number(self.epilogue.zero_point))
        if dtype == "int32":
            return apply(
                "float_to_s32", apply("fadd", apply("rint", scaled), float(output.zero_point))
            )
        low, high = INTEGERS[dtype]
        held = minimum(
            float(high - output.zero_point), maximum(float(low - output.zero_point), scaled)
        )
        return apply("float_to_s32", held) + output.zero_point


def _to_real(source: Source, name: str, at: Scalar) -> Scalar:
    if source.image.dtype.startswith(("float", "bfloat")):
        return register(name, at, "float32")
    real = apply("int_to_float", register(name, at, "int32") - source.zero_point)
    return real if source.scale == 1.0 else apply("fmul", real, source.scale)
