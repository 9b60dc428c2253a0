"""What a kernel does, apart from how it is tiled: the numbers that pricing needs of a region."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gcompile import ir


@dataclass(frozen=True, slots=True)
class Batch:
    """Products of operands that are computed at run time.

    Attributes:
        contraction: One of them.
        pairs: How many there are.
        rights: How many right operands are brought into the order that units read.
        is_transposed: They lie so that this takes transposing.
    """

    contraction: ir.Contraction
    pairs: int
    rights: int
    is_transposed: bool


@dataclass(frozen=True, slots=True)
class AttentionWork:
    """Attention as one kernel.

    Attributes:
        heads: Of all sequences together; `key_heads` likewise.
        queries: Of one head; `keys` likewise.
        depth: Elements of a vector.
        is_causal: No query sees the keys after it.
        rounds_weights: Weights become bytes, for which all scores of a query must be known.
    """

    heads: int
    key_heads: int
    queries: int
    keys: int
    depth: int
    is_causal: bool
    rounds_weights: bool = False

    @property
    def scores(self) -> ir.Contraction:
        """The product of the queries and keys of one head."""
        return ir.Contraction.matmul(self.queries, self.depth, self.keys)


@dataclass(frozen=True, slots=True)
class Job:
    """The work of one kernel, in plain numbers: equal jobs cost the same.

    Attributes:
        contraction: The product with constant weights that a register-blocked kernel runs; None
            when there is none, or when no such kernel exists for it (groups).
        part: One of the equal products of a grouped or transposed convolution; None for all else.
        batch: The products of computed operands that a register-blocked kernel runs, if any. Both
            operands are then part of `activation_bytes`.
        product_ops: Operations of dense products, 2 per multiply-accumulate.
        vector_ops: Operations that only a vector unit does.
        image_bytes: Bytes of the activation that the contraction reads, each once.
        activation_bytes: Sizes of the other activations read and written.
        constant_bytes: Constants read besides the contraction's weights.
        launches: It is started by itself, not as part of a kernel that starts several regions.
        sliding: The windows of a depthwise convolution; None for everything else.
        sliding_bytes: Bytes of the image they slide over, once; part of `activation_bytes`.
        steps: Steps of a recurrent net, each of which reads all recurrent weights.
        step_bytes: Those weights; part of `constant_bytes`.
        sequences: Of a recurrent net, those that run side by side, in every direction.
        stored_weight_bytes: The contraction's weights where they are stored as integers that the
            kernel decodes; None where they are stored in the format of the products.
        attention: Attention, whose operands are part of `activation_bytes`; None for all else.
        within: For the image and each of the other activations, the bytes among which a cache
            must keep it from its producer to its consumer: half of what is touched between both.
            Empty where that is the activation itself.
    """

    precision: ir.Precision
    contraction: ir.Contraction | None
    product_ops: int
    vector_ops: int
    image_bytes: int
    activation_bytes: tuple[int, ...]
    constant_bytes: int
    launches: bool = True
    sliding: ir.Contraction | None = None
    sliding_bytes: int = 0
    batch: Batch | None = None
    part: ir.Contraction | None = None
    steps: int = 1
    step_bytes: int = 0
    sequences: int = 1
    stored_weight_bytes: int | None = None
    attention: AttentionWork | None = None
    within: tuple[int, ...] = ()

    @property
    def activations(self) -> tuple[tuple[int, int], ...]:
        """(bytes, bytes among which they must stay) of all activations, the image first."""
        sizes = (self.image_bytes, *self.activation_bytes)
        return tuple(zip(sizes, self.within or sizes, strict=True))

    @property
    def blocked(self) -> ir.Contraction | None:
        """The product that is cut into register blocks: the only one, or one of a batch.

        Of attention, that of queries and keys, which has the blocks of the other one too.
        """
        if self.attention is not None:
            return self.attention.scores
        return self.batch.contraction if self.batch is not None else self.contraction

    @property
    def weight_bytes(self) -> int:
        """The contraction's weights as they are stored for the kernel, without padding."""
        if self.contraction is None:
            return 0
        if self.stored_weight_bytes is not None:
            return self.stored_weight_bytes
        return self.contraction.weight_count * self.precision.bits // 8

    @property
    def weight_share(self) -> float:
        """What is stored of each byte of weight that the product multiplies."""
        if self.contraction is None or self.stored_weight_bytes is None:
            return 1.0
        multiplied = self.contraction.weight_count * self.precision.bits / 8
        return self.stored_weight_bytes / multiplied

    @property
    def alone_bytes(self) -> int:
        """What the job touches when it is all there is."""
        operands = self.image_bytes + self.weight_bytes + self.constant_bytes
        return operands + sum(self.activation_bytes)

    def at(self, precision: ir.Precision) -> Job:
        """Return the same work on numbers of another format, in memory as in the products."""
        if not {self.precision, precision} <= _SCALABLE:
            return self
        ratio = precision.bits / self.precision.bits
        return replace(
            self,
            precision=precision,
            image_bytes=round(self.image_bytes * ratio),
            activation_bytes=tuple(round(size * ratio) for size in self.activation_bytes),
            sliding_bytes=round(self.sliding_bytes * ratio),
            within=tuple(round(size * ratio) for size in self.within),
        )


def job_of(region: ir.Region) -> Job | None:
    """Return the region's job, or None when it only renames memory."""
    nodes = _without_folded(region)
    if ir.is_view(region):
        return None
    product_ops, vector_ops = ir.operations_of(nodes)
    contraction = tiled_contraction(region)
    image = weights = None
    if contraction is not None:
        image, weights = (_source(v, region) for v in (region.anchor or nodes[0]).inputs[:2])
    net = ir.recurrence_of(region.nodes[0])
    sliding = region.contraction
    if sliding is not None and not sliding.is_depthwise:
        sliding = None
    product = region.batched_product
    batch = None
    if product is not None:
        batch = Batch(
            product.contraction, product.pairs, product.rights, product.right.is_transposed
        )
    constants = [v for v in region.inputs if v.const_value is not None and v is not weights]
    read = (ir.read_bytes(value, region) for value in _read_beside(image, region))
    written = (ir.written_bytes(value, region) for value in region.outputs)
    return Job(
        precision=region.precision,
        contraction=contraction,
        product_ops=product_ops,
        vector_ops=vector_ops,
        image_bytes=_image_bytes(image, contraction),
        activation_bytes=(*read, *written),
        constant_bytes=sum(ir.read_bytes(value, region) for value in constants),
        launches=region.launch == region.name,
        sliding=sliding,
        sliding_bytes=_sliding_bytes(region) if sliding is not None else 0,
        batch=batch,
        part=ir.part_of(region.anchor) if region.anchor is not None else None,
        steps=net.steps if net is not None else 1,
        step_bytes=net.recurrent_count * _FLOAT_BYTES if net is not None else 0,
        sequences=net.batch * net.directions if net is not None else 1,
        stored_weight_bytes=_stored_weight_bytes(region, contraction),
        attention=_attention(region),
    )


def activations_of(region: ir.Region) -> tuple[ir.Value | None, ...]:
    """The values behind `Job.activations`, in their order; no image is None."""
    image = None
    if tiled_contraction(region) is not None:
        image = _source((region.anchor or region.nodes[0]).inputs[0], region)
    return (image, *_read_beside(image, region), *region.outputs)


def _read_beside(image: ir.Value | None, region: ir.Region) -> list[ir.Value]:
    return [v for v in region.inputs if v.const_value is None and v is not image]


def _attention(region: ir.Region) -> AttentionWork | None:
    found = region.attention
    if found is None:
        return None
    batch, heads, key_heads, queries, keys, depth = found.sizes
    return AttentionWork(
        batch * heads, batch * key_heads, queries, keys, depth, found.causal,
        found.weights is not None,
    )  # fmt: skip


def _stored_weight_bytes(region: ir.Region, contraction: ir.Contraction | None) -> int | None:
    decoder = region.weight_decoder
    if decoder is None or contraction is None or decoder.inputs[0] is None:
        return None
    return ir.value_bytes(decoder.inputs[0])


def _sliding_bytes(region: ir.Region) -> int:
    source = _source(region.anchor.inputs[0], region) if region.anchor is not None else None
    return ir.value_bytes(source) if source is not None else 0


def _image_bytes(image: ir.Value | None, contraction: ir.Contraction | None) -> int:
    """Count the pixels that are read: strides wider than the kernel leave the others out."""
    if image is None or contraction is None:
        return 0
    high = min(1.0, contraction.kernel_h / contraction.stride_h)
    wide = min(1.0, contraction.kernel_w / contraction.stride_w)
    return round(ir.value_bytes(image) * high * wide)


def tiled_contraction(region: ir.Region) -> ir.Contraction | None:
    """Return the product if a register-blocked kernel runs it: one group, constant weights.

    That of a recurrent net is the product of its inputs.
    """
    net = ir.recurrence_of(region.nodes[0])
    if net is not None:
        return net.projection if ir.is_constant(region.nodes[0].inputs[1]) else None
    contraction, anchor = region.contraction, region.anchor
    if contraction is None or anchor is None or contraction.groups != 1:
        return None
    weights = _source(anchor.inputs[1], region)
    if weights is None or not ir.is_constant(weights) or ir.is_batched_product(anchor):
        return None
    return contraction


def _source(value: ir.Value | None, region: ir.Region) -> ir.Value | None:
    """Walk up to the value outside the region that this one is made from."""
    while value is not None and (producer := value.producer()) in region.nodes:
        value = producer.inputs[0] if producer is not None else None
    return value


def _without_folded(region: ir.Region) -> tuple[ir.Node, ...]:
    """Leave out what the product's kernel does for nothing: it dequantizes in its scales.

    Integer weights of a product of floats are decoded one by one, which is work.
    """
    if region.anchor is None or len(region.nodes) == 1:
        return region.nodes
    operands = (ir.operand_moves(value, region.nodes)[0] for value in region.anchor.inputs)
    producers = (value.producer() for value in operands if value is not None)
    folded = {
        node for node in producers
        if node is not None and node.op_type in ("DequantizeLinear", "Cast")
    }  # fmt: skip
    if region.attention is not None:  # Of both products.
        folded |= {node for node in region.nodes if node.op_type == "DequantizeLinear"}
    if region.weight_decoder is not None:
        folded = (folded | set(ir.weight_path(region.anchor))) - {region.weight_decoder}
    return tuple(node for node in region.nodes if node not in folded)


_FLOAT_BYTES = 4
_SCALABLE = frozenset(ir.Precision) - {ir.Precision.FP64, ir.Precision.INT32}
