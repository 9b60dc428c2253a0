"""Hand each region its operands in the layout it wants; convert a value once each way at most."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import (
    ElementwiseKernel,
    Image,
    Load,
    Output,
    Source,
    TransposeKernel,
)
from gcompile.backends.tvm.lowering.emission import Emission
from gcompile.backends.tvm.lowering.placement import (
    DTYPES,
    NO_HALO,
    Halo,
    Layout,
    Placement,
    image_of,
    is_same_memory,
    rows_image,
    stored_channels,
)
from gcompile.backends.tvm.lowering.requests import Request
from gcompile.errors import CompileError


def array_of(value: ir.Value) -> ir.Array:
    """The data of a constant.

    Raises:
        CompileError: It has none.
    """
    array = ir.constant_array(value)
    if array is None:
        raise CompileError(f"The value {value.name!r} is read before anything computes it.")
    return array


SIGNED_OFFSET = 128
"""What a signed byte is raised by to be an unsigned one."""


@dataclass
class Memory:
    """Every value of one graph, wherever it lies. Constants are put there when they are read.

    Attributes:
        requests: What the readers of each value want; decides the halo of new images.
        raised: Signed bytes that lie there as unsigned ones too.
    """

    emission: Emission
    requests: dict[ir.Value, Request]
    rows: dict[ir.Value, Placement] = field(default_factory=dict)
    images: dict[ir.Value, list[Placement]] = field(default_factory=dict)
    raised: dict[tuple[relax.Expr, Image], Placement] = field(default_factory=dict)

    def put(self, value: ir.Value, placement: Placement) -> None:
        """Record where a value lies."""
        if placement.layout is Layout.ROWS:
            self.rows[value] = placement
        else:
            self.images.setdefault(value, []).append(placement)

    def put_rows(self, value: ir.Value, var: relax.Expr) -> None:
        """Record a variable that has the value's logical shape, and its type for Relax."""
        if value.dtype is ir.DataType.BOOL:
            var = self.emission.emit(relax.op.astype(var, "uint8"))
        dtype = DTYPES.get(value.dtype or ir.DataType.FLOAT, "other")
        image = rows_image(ir.static_shape(value), dtype)
        self.rows[value] = Placement(var, Layout.ROWS, image)

    def has_image(self, value: ir.Value) -> bool:
        """Say whether the value lies channels last already, or some reader will want it so."""
        return value in self.images or value in self.requests

    def wanted(self, value: ir.Value) -> Request:
        """What a producer of a channels-last image of the value should write."""
        return self.requests.get(value, Request())

    def new_image(self, value: ir.Value) -> Image:
        """The channels-last image a producer should write."""
        wanted = self.wanted(value)
        return image_of(value, Layout.CHANNELS_LAST, halo=wanted.halo, fill=wanted.fill)

    def image(self, value: ir.Value, halo: Halo = NO_HALO, fill: float = 0.0) -> Placement:
        """The value channels last, with at least this halo of this content."""
        request = Request(halo, fill)
        for placement in self.images.get(value, ()):
            if Request(placement.image.halo, placement.image.fill).serves(request):
                return placement
        if value in self.images:
            return self._copy(value, self.images[value][0], request)
        return self._from_rows(value, request)

    def tensor(self, value: ir.Value) -> Placement:
        """The value in its logical order, under a shape Relax may not know it by."""
        if value not in self.rows and value in self.images:
            self.rows[value] = self._to_rows(value)
        if value not in self.rows:
            self.put_rows(value, self.emission.emit(self.emission.constant(array_of(value))))
        return self.rows[value]

    def plain(self, value: ir.Value) -> relax.Expr:
        """The value as Relax operators see it: logical order, logical shape, and its own type."""
        placement, shape = self.tensor(value), ir.static_shape(value)
        var = placement.var
        if placement.shape != shape:
            var = self.emission.emit(relax.op.reshape(var, shape))
        if value.dtype is ir.DataType.BOOL:
            var = self.emission.emit(relax.op.astype(var, "bool"))
        return var

    def bare_image(self, value: ir.Value) -> Placement:
        """The value channels last, without a halo."""
        for placement in self.images[value]:
            if not any(placement.image.halo):
                return placement
        return self._copy(value, self.images[value][0], Request())

    def unsigned(self, signed: Placement) -> Placement:
        """The same bytes, each raised by `SIGNED_OFFSET`, its halo too.

        Units multiply unsigned bytes with signed ones: zero points say what both mean.
        """
        image = signed.image
        if (signed.var, image) not in self.raised:
            raised = replace(image, dtype="uint8", fill=image.fill + SIGNED_OFFSET)
            output = Output(raised, 1.0, SIGNED_OFFSET)
            kernel = ElementwiseKernel(output, Load(0), (Source(image),), **self.emission.shared())
            var = self.emission.call(kernel, [signed.var], raised)
            self.raised[signed.var, image] = Placement(var, signed.layout, raised)
        return self.raised[signed.var, image]

    def _copy(self, value: ir.Value, source: Placement, request: Request) -> Placement:
        image = image_of(value, Layout.CHANNELS_LAST, halo=request.halo, fill=request.fill)
        image = replace(image, channels=source.image.channels)
        kernel = ElementwiseKernel(
            Output(image), Load(0), (Source(source.image),), **self.emission.shared()
        )
        placement = Placement(
            self.emission.call(kernel, [source.var], image), Layout.CHANNELS_LAST, image
        )
        self.put(value, placement)
        return placement

    def _from_rows(self, value: ir.Value, request: Request) -> Placement:
        source, shape = self.tensor(value), ir.static_shape(value)
        image = self.new_image(value)
        if not Request(image.halo, image.fill).serves(request):
            image = replace(image, halo=request.halo, fill=request.fill)
        if is_same_memory(shape) and not any(image.halo):
            logical = shape[1]
            if stored_channels(logical) == logical:
                view = replace(image, declared=source.shape)
                placement = Placement(source.var, Layout.CHANNELS_LAST, view)
                self.put(value, placement)
                return placement
        kernel = self._transpose(shape, source, image, to_image=True)
        var = self.emission.call(kernel, [source.var], image)
        placement = Placement(var, Layout.CHANNELS_LAST, image)
        self.put(value, placement)
        return placement

    def _to_rows(self, value: ir.Value) -> Placement:
        source, shape = self.images[value][0], ir.static_shape(value)
        image = source.image
        exact = image.channels == shape[1] and not any(image.halo)
        result = rows_image(shape, image.dtype)
        if is_same_memory(shape) and exact:
            return Placement(source.var, Layout.ROWS, replace(result, declared=source.shape))
        kernel = self._transpose(shape, source, image, to_image=False)
        return Placement(self.emission.call(kernel, [source.var], result), Layout.ROWS, result)

    def _transpose(
        self, shape: tuple[int, ...], rows: Placement, image: Image, *, to_image: bool
    ) -> TransposeKernel:
        batch, channels, *spatial = shape
        height, width = (1, *spatial)[-2:]
        declared = rows.shape if to_image else shape
        return TransposeKernel(
            plain_shape=(batch, channels, height, width),
            plain_dtype=image.dtype,
            image=image,
            to_image=to_image,
            declared_plain=declared,
            **self.emission.shared(),
        )
