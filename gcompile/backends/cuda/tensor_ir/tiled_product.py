"""Products in fp32: blocks keep tiles of both operands in shared memory."""

from __future__ import annotations

from gcompile.backends.cuda.tensor_ir.nest_text import NestText, indented
from gcompile.backends.cuda.tensor_ir.nests import count
from gcompile.backends.cuda.tensor_ir.prelude import C_TYPES
from gcompile.backends.cuda.tensor_ir.products import DEPTH, NestProduct, ProductTile, Side


def by_tiles(nest_text: NestText, product: NestProduct, tile: ProductTile) -> str:
    """Blocks keep both operands of their tile in shared memory, threads sums in registers."""
    reduction = product.nest
    tensor = reduction.written[0]
    sums = C_TYPES[str(tensor.dtype)]
    text = "".join(
        f"  __shared__ {sums} {name}[{DEPTH}][{width + 1}];\n"
        for name, width in (("left", tile.rows), ("right", tile.columns))
    )
    own = tile.own_rows * tile.own_columns
    text += f"  PRIVATE({sums}, sums, {own});\n"
    text += f"  PHASE {{ for (int i = 0; i < {own}; ++i) OWN(sums)[i] = 0; }}\n"
    text += f"  for (int first = 0; first < {product.depth}; first += {DEPTH}) {{\n"
    for side in (product.left, product.right):
        text += f"    PHASE {{\n{indented(_load_side(nest_text, product, side, tile), 6)}    }}\n"
    text += "    __syncthreads();\n    PHASE {\n" + indented(tile.multiply(sums), 6)
    text += "    }\n    __syncthreads();\n  }\n"
    nest_text.values[tensor] = f"OWN(sums)[i * {tile.own_columns} + j]"
    lines = [
        f"for (int i = 0; i < {tile.own_rows}; ++i) {{",
        f"for (int j = 0; j < {tile.own_columns}; ++j) {{",
        f"const int row = {tile.row()}, column = {tile.column()};",
        f"if (row >= {product.rows} || column >= {product.columns}) continue;",
        *nest_text.decode("row", product.left.loops),
        *nest_text.decode("column", product.right.loops),
        *nest_text.decode("(int)blockIdx.z", product.batch),
    ]
    nest_text.bind(reduction)
    if reduction is nest_text.nest.before:
        nest_text.match_around(reduction)
    return text + "  PHASE {\n" + indented([*lines, *nest_text.result(), "}", "}"], 4) + "  }\n"


def _load_side(
    nest_text: NestText, product: NestProduct, side: Side, tile: ProductTile
) -> list[str]:
    """Bring one operand's part of the tile into shared memory; what is outside is zero."""
    width = tile.rows if side is product.left else tile.columns
    block = "blockIdx.x" if side is product.left else "blockIdx.y"
    line, depth = (
        (f"at / {DEPTH}", f"at % {DEPTH}")
        if side.walks_depth
        else (f"at % {width}", f"at / {width}")
    )
    lines = [
        f"for (int at = threadIdx.x; at < {DEPTH * width}; at += {tile.threads}) {{",
        f"const int line = {block} * {width} + {line}, depth = first + {depth};",
        f"{side.name}[{depth}][{line}] = 0;",
        f"if (line < {count(side.loops)} && depth < {product.depth}) {{",
        *nest_text.decode("line", side.loops),
        *nest_text.decode("depth", product.nest.reduced),
        *nest_text.decode("(int)blockIdx.z", product.batch),
    ]
    nest_text.bind(product.nest)
    value = nest_text.expressions(side.value)
    return [*lines, f"{side.name}[{depth}][{line}] = {value};", "}", "}"]
