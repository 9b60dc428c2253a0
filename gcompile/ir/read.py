"""Read a model and make it ready: named, one opset, static shapes, constants no inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir
from onnx_ir.passes import common as onnx_passes

from gcompile.errors import (
    InvalidModelError,
    UnsupportedNode,
    UnsupportedOperatorsError,
    UsageError,
)
from gcompile.ir import ceil_pools
from gcompile.ir.bounded.bind import bind_counted_sizes
from gcompile.ir.bounded.operators import define, forget
from gcompile.ir.constants import is_constant
from gcompile.ir.expand_functions import expand_functions
from gcompile.ir.external_data import SMALL_BYTES, check_external_data
from gcompile.ir.infer import infer_graph, is_kept_loop
from gcompile.ir.newer import keep_newer
from gcompile.ir.notes import add_note
from gcompile.ir.old_slopes import LAST_OPSET, spread_old_slopes
from gcompile.ir.refusals import refused_strings
from gcompile.ir.same_operators import are_same
from gcompile.ir.shapes import Shapes, bind_shapes, free_unnamed_sizes, infer_shapes
from gcompile.ir.static.settle import settle
from gcompile.ir.steps_first import put_steps_first
from gcompile.ir.stft_sides import say_sides
from gcompile.ir.verify import verify
from gcompile.ir.walk import all_nodes, remove_unused
from gcompile.ir.written_out.contributed import name_contributed

OPSET = 21
"""The one opset inside gcompile: older models are converted up to it."""

_STANDARD_DOMAINS = ("", "ai.onnx")
_SCAN_OF_TENSORS = 9
_BOUND = "gcompile.bound."
_PICKLED = frozenset({".pt", ".pth", ".ckpt"})


def load(
    path: str | Path,
    shapes: Shapes | None = None,
    batch: int = 1,
    sizes: Mapping[str, int] | None = None,
) -> onnx_ir.Model:
    """Read an ONNX file and make it ready. Weights stay on disk until something reads them.

    Args:
        path: The `.onnx` file; external data is looked for beside it.
        shapes: A static shape for each graph input that has free dimensions.
        batch: What a free leading dimension is bound to where nothing else says so.
        sizes: What free dimensions are bound to, by their names.

    Raises:
        UsageError: The file does not exist, or a shape is missing or contradicts the model.
        InvalidModelError: The file is not an ONNX model, or is damaged.
        UnsupportedOperatorsError: The model uses operators ONNX does not define.
    """
    return prepare(read_file(path), shapes, batch, sizes)


def read_file(path: str | Path) -> onnx_ir.Model:
    """Read an ONNX file as it is, free dimensions included.

    Raises:
        UsageError: The file does not exist.
        InvalidModelError: The file is not an ONNX model, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"Model file {str(path)!r} does not exist or is not a file.")
    if path.suffix in _PICKLED:
        raise InvalidModelError(
            f"{str(path)!r} is a pickle of PyTorch, and loading one may run any code. Name a "
            "factory of the module, my.module:factory, or save it as .pt2 with torch.export.save."
        )
    try:
        model = onnx_ir.load(path)
    except Exception as error:
        raise InvalidModelError(
            f"{str(path)!r} cannot be read as an ONNX model, it is truncated or of another "
            "format. Export or copy it again."
        ) from error
    if not len(model.graph.outputs):
        raise InvalidModelError(
            f"{str(path)!r} holds no graph with outputs, it is truncated or of another format. "
            "Export or copy it again."
        )
    check_external_data(model, path)
    free_unnamed_sizes(model)
    return model


def parse(text: str, shapes: Shapes | None = None) -> onnx_ir.Model:
    """Read the ONNX text format, as tests do, and make it ready."""
    return prepare(onnx_ir.from_onnx_text(text), shapes)


def prepare(
    model: onnx_ir.Model,
    shapes: Shapes | None = None,
    batch: int = 1,
    sizes: Mapping[str, int] | None = None,
) -> onnx_ir.Model:
    """Make a model ready, in place where possible; return the ready model. See `load`."""
    forget(model)
    name_contributed(model)
    _refuse_undefined_operators(model)
    model = onnx_passes.InlinePass()(model).model
    while expand_functions(model, OPSET):
        model = onnx_passes.InlinePass()(model).model
    _name_nodes(model)
    model = onnx_passes.NameFixPass()(model).model
    _make_initializers_constant(model)
    free_unnamed_sizes(model)
    defaults = bind_shapes(model, shapes or {}, batch, sizes)
    if model.graph.opset_imports.get("", OPSET) >= ceil_pools.FIRST_OPSET:
        ceil_pools.settle_ceil_pools(model)
    model = _convert_opset(model)
    put_steps_first(model)
    say_sides(model)
    _constants_to_initializers(model)
    infer_shapes(model)
    if settle(model, OPSET):
        _constants_to_initializers(model)
        infer_shapes(model)
    if bind_counted_sizes(model, OPSET):
        _name_nodes(model)
        remove_unused(model)
        settle(model, OPSET)
        _constants_to_initializers(model)
        infer_shapes(model)
    _name_nodes(model)
    define(model)
    _note_loops(model)
    verify(model)
    for name, size in defaults.items():
        model.metadata_props[_BOUND + name] = str(size)
    return model


def _note_loops(model: onnx_ir.Model) -> None:
    """Say of loops that stay how they are priced."""
    for node in filter(is_kept_loop, all_nodes(model)):
        counted = "the most it may have" if is_constant(node.inputs[0]) else "one round"
        add_note(
            model,
            f"How many rounds the loop {node.name} has is known only when it runs: energy and "
            f"time are those of {counted}.",
        )


def default_bindings(model: onnx_ir.Model) -> dict[str, int]:
    """Return the free dimensions that were bound without being asked for, by name."""
    return {
        name.removeprefix(_BOUND): int(size)
        for name, size in model.metadata_props.items()
        if name.startswith(_BOUND)
    }


def _refuse_undefined_operators(model: onnx_ir.Model) -> None:
    local = {(function.domain, function.name) for function in model.functions.values()}
    unknown: list[UnsupportedNode] = []
    for index, node in enumerate(all_nodes(model)):
        if node.domain not in _STANDARD_DOMAINS or (node.domain, node.op_type) in local:
            continue
        version = model.graph.opset_imports.get("", OPSET)
        name = node.name or f"#{index} ({', '.join(str(v.name) for v in node.outputs)})"
        if node.op_type == "Scan" and version < _SCAN_OF_TENSORS:
            reason = "before opset 9 it scans a batch, whose sequences have lengths of their own"
            unknown.append(UnsupportedNode(name, "Scan", reason, "export the model with opset 9"))
        elif not _is_defined(node.op_type, version):
            reason = f"ONNX does not define it in opset {version}"
            remedy = "export the model with a newer opset"
            unknown.append(UnsupportedNode(name, node.op_type, reason, remedy))
    if unknown:
        unknown += refused_strings(model)
        raise UnsupportedOperatorsError(unknown)


def _is_defined(op_type: str, version: int) -> bool:
    try:
        onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return False
    return True


def _name_nodes(model: onnx_ir.Model) -> None:
    """Give each node a name that is unique over all scopes: energy is kept by node name."""
    taken: set[str] = set()
    for node in all_nodes(model):
        base = node.name or f"{node.op_type}_{next((v.name for v in node.outputs if v.name), '')}"
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        node.name = name
        taken.add(name)


def _make_initializers_constant(model: onnx_ir.Model) -> None:
    """Old files list every weight as an input too; for a compiler it is a constant."""
    inputs = model.graph.inputs
    kept = [value for value in inputs if value.name not in model.graph.initializers]
    if len(kept) != len(inputs):
        inputs.clear()
        inputs.extend(kept)


def _constants_to_initializers(model: onnx_ir.Model) -> None:
    onnx_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def _convert_opset(model: onnx_ir.Model) -> onnx_ir.Model:
    """Convert to `OPSET` with ONNX's own converter; large weights never pass through it."""
    version = model.graph.opset_imports.get("", OPSET)
    for domain in _STANDARD_DOMAINS[1:]:
        version = model.graph.opset_imports.pop(domain, version)
    if version <= LAST_OPSET:
        infer_graph(model.graph, model.opset_imports)
        spread_old_slopes(model)
    if version > OPSET:
        _keep_newer(model, version)
    if version > OPSET and are_same(model, version, OPSET):
        version = model.graph.opset_imports[""] = OPSET
    if version == OPSET or "" not in model.graph.opset_imports:
        model.graph.opset_imports.setdefault("", OPSET)
        model.ir_version = 10
        return model
    held = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype is onnx_ir.DataType.STRING:
            continue
        if tensor.nbytes > SMALL_BYTES:
            held[name] = tensor
            value.shape = onnx_ir.Shape(tensor.shape.numpy())
            value.dtype = tensor.dtype
            value.const_value = None
            model.graph.initializers.pop(name)
            model.graph.inputs.append(value)
    proto = onnx_ir.to_proto(model)
    proto.ir_version = 10
    try:
        converted_proto = onnx.version_converter.convert_version(proto, OPSET)
        converted: onnx_ir.Model = onnx_ir.from_proto(converted_proto)
    except Exception as error:
        raise InvalidModelError(
            f"The model's opset {version} cannot be converted to {OPSET}: "
            f"{str(error).strip().splitlines()[0]}. Export the model with opset {OPSET}."
        ) from error
    _give_back(converted, held)
    _restore_metadata(converted, model)
    return converted


def _keep_newer(model: onnx_ir.Model, version: int) -> None:
    """Leave to later steps what the converter cannot convert."""
    since = {
        node.op_type: onnx.defs.get_schema(node.op_type, version, "").since_version
        for node in all_nodes(model)
        if node.domain in _STANDARD_DOMAINS
    }
    if any(number > OPSET for number in since.values()):
        infer_graph(model.graph, model.opset_imports)  # What an operator means depends on types.
        keep_newer(model, since, OPSET)


def _restore_metadata(converted: onnx_ir.Model, before: onnx_ir.Model) -> None:
    """ONNX's converter drops what is written beside the nodes: where they come from."""
    named = {node.name: node for node in all_nodes(before)}
    for node in all_nodes(converted):
        source = named.get(node.name)
        if source is not None and source.op_type == node.op_type:
            node.metadata_props.update(source.metadata_props)
    converted.metadata_props.update(before.metadata_props)


def _give_back(model: onnx_ir.Model, held: dict[str, onnx_ir.TensorProtocol]) -> None:
    kept = []
    for value in model.graph.inputs:
        if value.name in held:
            value.const_value = held[value.name]
        else:
            kept.append(value)
    weights = [value for value in model.graph.inputs if value.name in held]
    model.graph.inputs.clear()
    model.graph.inputs.extend(kept)
    for value in weights:
        model.graph.register_initializer(value)
    model.ir_version = 10
