"""Make a graph of a PyTorch module: the one file through which PyTorch comes in.

`torch.export` traces the module without running it, and PyTorch's exporter writes the trace as an
`onnx_ir.Model` that shares the module's parameters and knows the module path and source line of
every node. Where that fails, the TorchScript exporter runs the module once and writes down what it
did; a note says so.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnx
import onnx_ir

from gcompile.errors import ExportError, InvalidModelError, UsageError
from gcompile.ir.export_failure import depends_on_values, explain, missing_operator
from gcompile.ir.module_spec import InputShape
from gcompile.ir.module_state import buffers_kept, for_inference
from gcompile.ir.notes import add_note
from gcompile.ir.place import Place, set_place
from gcompile.ir.pt2_archive import copy_vetted
from gcompile.ir.quiet import native_output_dropped, silence
from gcompile.ir.read import OPSET
from gcompile.ir.shapes import fold_shape_arithmetic

_TORCHSCRIPT_OPSET = 20
"""The last one that the TorchScript exporter writes."""

Inputs = Sequence[object] | Mapping[str, object]


class TorchModule(Protocol):
    """A `torch.nn.Module` or a `torch.export.ExportedProgram`, said without PyTorch."""

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]: ...


def from_torch(
    module: TorchModule, example_inputs: Inputs | None = None, dynamic_shapes: object = None
) -> onnx_ir.Model:
    """Make a graph of a module in evaluation mode; the module itself is left as it was.

    Args:
        module: A `torch.nn.Module`, or a `torch.export.ExportedProgram`.
        example_inputs: What `forward` takes, in order or by name; only shapes and types count. An
            exported program needs none.
        dynamic_shapes: Free dimensions as `torch.export.export` takes them. A name may stand for a
            `Dim`: `{"x": {0: "batch"}}`.

    Returns:
        A model whose free dimensions are symbols; `gcompile.ir.prepare` makes it ready. It shares
        the parameters of the module.

    Raises:
        UsageError: PyTorch or its exporter is missing, or the module does not run on the inputs.
        ExportError: The module cannot become a graph; the message says where and why.
    """
    torch = import_torch()
    if isinstance(module, torch.export.ExportedProgram):
        with silence(), torch.no_grad():
            return _translate(torch, module, dynamic_shapes, modules={})
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"A {type(module).__name__} is no model. Give an ONNX file, a gcompile.ir.Model, a "
            "torch.nn.Module or an exported program."
        )
    args, kwargs = _arguments(torch, module, example_inputs)
    export = _Export(torch, module, args, kwargs, dynamic_shapes)
    with silence(), for_inference(module, torch.jit.ScriptModule), torch.no_grad():
        model = export.run()
    model.graph.name = type(module).__name__
    return model


def example_inputs(shapes: Sequence[InputShape]) -> Inputs:
    """Tensors of zeros for `from_torch`, to which only shapes and types matter.

    Raises:
        UsageError: PyTorch is missing or has no such type, or only some inputs are named.
    """
    torch = import_torch()
    tensors = []
    for shape in shapes:
        dtype = getattr(torch, shape.type_name, None)
        if not isinstance(dtype, torch.dtype):
            raise UsageError(
                f"PyTorch has no type {shape.type_name!r:.40}. Known types include float32, "
                "float16, bfloat16, int64, int32, uint8 and bool."
            )
        tensors.append(torch.zeros(shape.sizes, dtype=dtype))
    names = [shape.name for shape in shapes if shape.name]
    if not names:
        return tuple(tensors)
    if len(set(names)) != len(shapes):
        raise UsageError("Name every --input-shape once, or none: then their order counts.")
    return dict(zip(names, tensors, strict=True))


def load_pt2(path: Path) -> onnx_ir.Model:
    """Make a graph of a `.pt2` file that `torch.export.save` wrote; nothing in it is executed.

    Raises:
        UsageError: The file does not exist, or PyTorch or its exporter is missing.
        InvalidModelError: The file is damaged, or needs pickled or unknown things to be loaded.
        ExportError: The program cannot become a graph.
    """
    if not path.is_file():
        raise UsageError(f"Model file {str(path)!r} does not exist or is not a file.")
    torch = import_torch()
    with tempfile.NamedTemporaryFile(suffix=".pt2") as vetted:
        copy_vetted(path, vetted)
        vetted.flush()
        try:
            with silence():
                program = torch.export.load(vetted.name)
        except Exception as error:
            raise InvalidModelError(
                f"PyTorch cannot load {str(path)!r}: {_first_line(error)}. Save it again with the "
                f"version of PyTorch that is installed here, {torch.__version__}."
            ) from error
    model = from_torch(program)
    model.graph.name = path.stem
    return model


@dataclass(frozen=True)
class _Export:
    """One module on its way to a graph."""

    torch: Any
    module: Any
    args: tuple[object, ...]
    kwargs: dict[str, object]
    dynamic_shapes: object

    def run(self) -> onnx_ir.Model:
        modules = {id(part): name for name, part in self.module.named_modules()}
        if isinstance(self.module, self.torch.jit.ScriptModule):
            return self._trace("it is a ScriptModule")
        try:
            program = self.torch.export.export(
                self.module,
                self.args,
                self.kwargs,
                dynamic_shapes=_dimensions(self.torch, self.dynamic_shapes),
            )
            return _translate(self.torch, program, self.dynamic_shapes, modules)
        except Exception as error:
            failure = error if isinstance(error, ExportError) else explain(error, modules)
            self._refuse_wrong_inputs(error)
            if depends_on_values(error) or self.dynamic_shapes is not None:
                raise failure from error
            try:
                return self._trace(f"torch.export refuses it ({str(failure).split('. ')[0]})")
            except Exception:
                raise failure from error

    def _refuse_wrong_inputs(self, error: Exception) -> None:
        """Where the module does not even run, the export is not to blame."""
        try:
            with buffers_kept(self.module):
                self.module(*self.args, **self.kwargs)
        except Exception as own:
            raise UsageError(
                f"The module does not run on its example inputs: {_first_line(own)}. Give inputs "
                "of the shapes and types that `forward` takes."
            ) from error

    def _trace(self, why: str) -> onnx_ir.Model:
        """Run the module and write down what it does, unless Python looked at a tensor's value."""
        file = io.BytesIO()
        with (
            warnings.catch_warnings(record=True) as caught,
            buffers_kept(self.module),
            native_output_dropped(),
        ):
            warnings.simplefilter("always", self.torch.jit.TracerWarning)
            self.torch.onnx.export(
                self.module,
                self.args,
                file,
                kwargs=self.kwargs,
                input_names=self._input_names(),
                opset_version=_TORCHSCRIPT_OPSET,
                dynamo=False,
            )
        for warning in caught:
            if issubclass(warning.category, self.torch.jit.TracerWarning):
                raise ExportError(f"The trace may be wrong: {warning.message}")
        model: onnx_ir.Model = onnx_ir.from_proto(onnx.load_model_from_string(file.getvalue()))
        for node in model.graph.all_nodes():
            set_place(node, ".".join((node.name or "").split("/")[1:-1]))
        count = len(model.graph.outputs)
        for index, value in enumerate(model.graph.outputs):
            value.name = "output" if count == 1 else f"output_{index}"
        add_note(
            model,
            f"The module was run once to export it, because {why}; source lines are not known.",
        )
        return model

    def _input_names(self) -> list[str] | None:
        """The parameters of `forward`, where each example input is one tensor."""
        if isinstance(self.module, self.torch.jit.ScriptModule):
            arguments = self.module.forward.schema.arguments[1:]
            return [argument.name for argument in arguments]
        try:
            call = inspect.signature(self.module.forward).bind(*self.args, **self.kwargs)
        except (TypeError, ValueError):
            return None
        if not all(isinstance(value, self.torch.Tensor) for value in call.arguments.values()):
            return None
        return list(call.arguments)


def _translate(
    torch: Any, program: Any, dynamic_shapes: object, modules: Mapping[int, str]
) -> onnx_ir.Model:
    """Write an exported program as a graph, unoptimized: gcompile's passes account for theirs."""
    try:
        written = torch.onnx.export(
            program,
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    except Exception as error:
        raise explain(error, modules, _operator_place(program, error)) from error
    model: onnx_ir.Model = written.model
    _name_outputs(torch, model, written.exported_program)
    _note_mutations(model, written.exported_program)
    fold_shape_arithmetic(model)
    return model


def _operator_place(program: Any, error: Exception) -> Place | None:
    """Where the operator without an ONNX form stands in the program, decomposed or not."""
    operator = missing_operator(error)
    if operator is None:
        return None
    with contextlib.suppress(Exception):
        for node in (*program.graph.nodes, *program.run_decompositions().graph.nodes):
            if str(node.target).startswith(f"{operator}."):
                scopes = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
                return Place.of(scopes[-1] if scopes else "", node.meta.get("stack_trace") or "")
    return None


def _name_outputs(torch: Any, model: onnx_ir.Model, program: Any) -> None:
    """Call outputs what the module calls them: keys of dictionaries, positions in tuples."""
    pytree = torch.utils._pytree
    results = pytree.tree_unflatten(
        list(program.graph_signature.user_outputs), program.call_spec.out_spec
    )
    paths = [path for path, name in pytree.tree_flatten_with_path(results)[0] if name is not None]
    taken = {str(v.name) for node in model.graph for v in (*node.inputs, *node.outputs) if v}
    for path, value in zip(paths, model.graph.outputs, strict=True):
        steps = [str(getattr(step, "key", getattr(step, "idx", ""))) for step in path]
        is_keyed = any(hasattr(step, "key") for step in path)
        name = "_".join(steps if is_keyed else ["output", *steps])
        if name not in taken and value.producer() is not None:
            value.name = name
            taken.add(name)


def _note_mutations(model: onnx_ir.Model, program: Any) -> None:
    """An artefact keeps no state: what the module changes from call to call is lost."""
    signature = program.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        add_note(
            model,
            f"The module changes {', '.join(map(str, changed))} whenever it runs; the compiled "
            "model leaves buffers as they were exported, and its inputs alone.",
        )


def _dimensions(torch: Any, dynamic_shapes: object) -> object:
    """What `torch.export` takes: a name only says that a dimension is free."""
    pytree = torch.utils._pytree
    return pytree.tree_map_only(str, lambda name: torch.export.Dim.DYNAMIC, dynamic_shapes)


def _arguments(
    torch: Any, module: object, example_inputs: Inputs | None
) -> tuple[tuple[object, ...], dict[str, object]]:
    if example_inputs is None:
        raise UsageError(
            f"The module {type(module).__name__} needs example inputs, for their shapes and "
            "types. Give example_inputs=(tensor, ...), or --input-shape on the command line."
        )
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return tuple(example_inputs), {}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


def import_torch() -> Any:
    """PyTorch, where it and its exporter are installed.

    Raises:
        UsageError: They are not.
    """
    try:
        import onnxscript  # noqa: F401  # PyTorch's exporter asks for it late, and at length.
        import torch
    except ImportError as error:
        raise UsageError(
            f"Reading a PyTorch module needs PyTorch and its exporter ({error}). Install them "
            "with: pip install 'gcompile[torch]'"
        ) from error
    return torch
