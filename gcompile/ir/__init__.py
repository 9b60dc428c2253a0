"""The graph: the `onnx_ir` object model, plus what gcompile needs to ask of it.

This is the only room that knows which library stores the graph. `load` and `parse` return a
*ready* model: every node named, one opset, every shape static, constants no longer inputs.
"""

from onnx_ir import (
    Attr,
    AttributeType,
    DataType,
    Graph,
    Model,
    Node,
    Shape,
    TensorType,
    Value,
    tensor,
)

from gcompile.ir.batched_product import (
    BatchedProduct,
    Matrices,
    batched_product,
    is_batched_product,
    operand_moves,
    puts_heads_side_by_side,
)
from gcompile.ir.bounded.bind import counts_of
from gcompile.ir.bounded.operators import BOUNDED
from gcompile.ir.chain import Chain, chain_of, set_chain
from gcompile.ir.constants import Array, add_constant, constant_array, is_constant, return_constant
from gcompile.ir.contraction import Contraction
from gcompile.ir.decoder import decoder_step
from gcompile.ir.describe import contraction_of, part_of, sliding_window
from gcompile.ir.dynamic_convolution import DynamicConvolution, dynamic_convolution
from gcompile.ir.dynamic_scale import dynamic_quantizer
from gcompile.ir.evaluate import evaluate_node, gives_nothing
from gcompile.ir.extract import Snapshot, border_of, extract, read_by
from gcompile.ir.freeze import freeze_inputs
from gcompile.ir.from_torch import Inputs, TorchModule, example_inputs, from_torch, load_pt2
from gcompile.ir.give_back import give_back, give_back_all
from gcompile.ir.interop import from_graphsurgeon, to_graphsurgeon, to_networkx
from gcompile.ir.module_spec import InputShape, is_module_spec, load_module
from gcompile.ir.narrow_types import NARROW, restored, stored
from gcompile.ir.newer import NEWER
from gcompile.ir.notes import add_note, notes_of
from gcompile.ir.origin import add_origin, origin_of
from gcompile.ir.place import Place, place_of
from gcompile.ir.precision import Precision, decodes_storage
from gcompile.ir.read import OPSET, default_bindings, load, parse, prepare, read_file
from gcompile.ir.recurrence import Recurrence, recurrence_of
from gcompile.ir.refusals import refuse_nodes, refused_nodes
from gcompile.ir.region import (
    Region,
    assign_region,
    clear_region,
    clear_tile,
    regions,
    set_launch,
    set_tile,
)
from gcompile.ir.rewire import bypass, only_reader
from gcompile.ir.row_bands import LEAST_PASSES, Band, BandedLayer, Bands, RowWindow, bands_of
from gcompile.ir.row_write import RowWrite, row_write_of
from gcompile.ir.shapes import (
    Shapes,
    fold_shape_arithmetic,
    free_dimensions,
    infer_shapes,
    static_shape,
)
from gcompile.ir.split_weights import split_weights
from gcompile.ir.static.borders import take_elements
from gcompile.ir.static.branches import inline_branch
from gcompile.ir.store_bytes import store_bytes
from gcompile.ir.stored_move import VIEWS, StoredMove, is_view, stored_move
from gcompile.ir.stored_weights import weight_decoder, weight_path
from gcompile.ir.strided import MOVES as STRIDED_MOVES
from gcompile.ir.strided import Strided
from gcompile.ir.tile import Tile
from gcompile.ir.transfer import from_bytes, to_bytes
from gcompile.ir.verify import verify
from gcompile.ir.walk import all_graphs, all_nodes, remove_unused
from gcompile.ir.work import (
    Work,
    operations_of,
    read_bytes,
    value_bytes,
    work_of,
    written_bytes,
)
from gcompile.ir.write import node_proto, save, to_proto, to_text

__all__ = [
    "BOUNDED",
    "LEAST_PASSES",
    "NARROW",
    "NEWER",
    "OPSET",
    "STRIDED_MOVES",
    "VIEWS",
    "Array",
    "Attr",
    "AttributeType",
    "Band",
    "BandedLayer",
    "Bands",
    "BatchedProduct",
    "Chain",
    "Contraction",
    "DataType",
    "DynamicConvolution",
    "Graph",
    "InputShape",
    "Inputs",
    "Matrices",
    "Model",
    "Node",
    "Place",
    "Precision",
    "Recurrence",
    "Region",
    "RowWindow",
    "RowWrite",
    "Shape",
    "Shapes",
    "Snapshot",
    "StoredMove",
    "Strided",
    "TensorType",
    "Tile",
    "TorchModule",
    "Value",
    "Work",
    "add_constant",
    "add_note",
    "add_origin",
    "all_graphs",
    "all_nodes",
    "assign_region",
    "bands_of",
    "batched_product",
    "border_of",
    "bypass",
    "chain_of",
    "clear_region",
    "clear_tile",
    "constant_array",
    "contraction_of",
    "counts_of",
    "decoder_step",
    "decodes_storage",
    "default_bindings",
    "dynamic_convolution",
    "dynamic_quantizer",
    "evaluate_node",
    "example_inputs",
    "extract",
    "fold_shape_arithmetic",
    "free_dimensions",
    "freeze_inputs",
    "from_bytes",
    "from_graphsurgeon",
    "from_torch",
    "give_back",
    "give_back_all",
    "gives_nothing",
    "infer_shapes",
    "inline_branch",
    "is_batched_product",
    "is_constant",
    "is_module_spec",
    "is_view",
    "load",
    "load_module",
    "load_pt2",
    "node_proto",
    "notes_of",
    "only_reader",
    "operand_moves",
    "operations_of",
    "origin_of",
    "parse",
    "part_of",
    "place_of",
    "prepare",
    "puts_heads_side_by_side",
    "read_by",
    "read_bytes",
    "read_file",
    "recurrence_of",
    "refuse_nodes",
    "refused_nodes",
    "regions",
    "remove_unused",
    "restored",
    "return_constant",
    "row_write_of",
    "save",
    "set_chain",
    "set_launch",
    "set_tile",
    "sliding_window",
    "split_weights",
    "static_shape",
    "store_bytes",
    "stored",
    "stored_move",
    "take_elements",
    "tensor",
    "to_bytes",
    "to_graphsurgeon",
    "to_networkx",
    "to_proto",
    "to_text",
    "value_bytes",
    "verify",
    "weight_decoder",
    "weight_path",
    "work_of",
    "written_bytes",
]
