"""How each contender turns a workload into a call, with its own best settings.

Inputs are bound before the clock starts wherever a contender's interface allows it. Libraries are
imported where they are used, so that one that is missing is a reason in the table.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

from benchmarks.peers.qdq import write_qdq
from benchmarks.peers.race import Call, NotOfferedError
from benchmarks.peers.workload import SAMPLES, Array, Workload


@dataclass(frozen=True)
class Entry:
    """One contender on one workload; calling it builds it."""

    contender: str
    workload: Workload
    precision: str
    threads: int

    def __call__(self) -> Call:
        """Build the contender and return one inference."""
        warnings.simplefilter("ignore")
        return CONTENDERS[self.contender](self)


def gcompile_call(entry: Entry) -> Call:
    import gcompile

    calibration = _rows(entry.workload) if entry.precision == "int8" else None
    compiled = gcompile.compile(
        entry.workload.path,
        calib=calibration,
        precision=entry.precision,
        threads=entry.threads,
        cache=False,
    )
    return compiled.artifact.runner.prepare(entry.workload.inputs)


def onnxruntime_call(entry: Entry) -> Call:
    import onnxruntime

    if entry.precision == "bf16":
        raise NotOfferedError("ONNX Runtime has no bf16 kernels for x86")
    path = entry.workload.path if entry.precision == "fp32" else qdq_model(entry.workload)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = entry.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    binding = session.io_binding()
    for name, array in entry.workload.inputs.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def openvino_call(entry: Entry) -> Call:
    import openvino

    core = openvino.Core()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if entry.precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": entry.threads,
    }
    model = core.read_model(entry.workload.path)
    if entry.precision == "int8":
        model = _openvino_int8(core, model, entry.workload)
    request = core.compile_model(model, "CPU", options).create_infer_request()
    tensors = [openvino.Tensor(np.ascontiguousarray(a)) for a in entry.workload.inputs.values()]
    for name, tensor in zip(entry.workload.inputs, tensors, strict=True):
        request.set_tensor(name, tensor)
    return lambda: request.infer(share_outputs=True)


def inductor_call(entry: Entry) -> Call:
    import torch
    import torch._inductor.config as inductor

    from benchmarks.peers.torch_graph import TorchGraph

    torch.set_num_threads(entry.threads)
    inductor.freezing = True
    inputs = tuple(torch.from_numpy(a.copy()) for a in entry.workload.inputs.values())
    module: torch.nn.Module = TorchGraph(entry.workload.path).eval()
    with torch.no_grad():
        if entry.precision == "bf16":
            module = module.in_bfloat16()
        elif entry.precision == "int8":
            module = _pt2e(module, inputs)
        compiled = torch.compile(module)
        compiled(*inputs)

    def call() -> None:
        with torch.no_grad():
            compiled(*inputs)

    return call


def tvm_call(entry: Entry) -> Call:
    """TVM's importer and its default pipeline: no schedule, no tuning."""
    if entry.precision != "fp32":
        raise NotOfferedError(f"TVM's default pipeline makes no {entry.precision} code of ONNX")
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    from gcompile.backends.tvm.llvm_target import llvm_target
    from gcompile.targets import load_target

    module = from_onnx(onnx.load(entry.workload.path), keep_params_in_input=False)
    executable = tvm.compile(module, target=llvm_target(load_target("cpu"), entry.threads))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    tensors = [tvm.runtime.tensor(array) for array in entry.workload.inputs.values()]
    return lambda: machine["main"](*tensors)


CONTENDERS = {
    "gcompile": gcompile_call,
    "ONNX Runtime": onnxruntime_call,
    "OpenVINO": openvino_call,
    "torch.compile": inductor_call,
    "TVM untuned": tvm_call,
}
"""Every contender by the name it has in the tables; the first is held against the others."""


def qdq_model(workload: Workload) -> Path:
    """The Q/DQ model of ONNX Runtime's quantizer, written once."""
    finished = workload.path.with_suffix(".qdq.onnx")
    if not finished.is_file():
        write_qdq(workload.path, finished, _each(workload))
    return finished


def _openvino_int8(core: object, model: object, workload: Workload) -> object:
    """NNCF's quantized model, or the Q/DQ model where NNCF is missing."""
    try:
        import nncf
    except ImportError:
        return core.read_model(qdq_model(workload))  # type: ignore[attr-defined]
    dataset = nncf.Dataset(list(_each(workload)))
    kind = nncf.ModelType.TRANSFORMER if workload.is_transformer else None
    return nncf.quantize(model, dataset, subset_size=SAMPLES, model_type=kind)


def _pt2e(module: object, inputs: tuple[object, ...]) -> object:
    """Static PT2E quantization of torchao for Inductor on x86."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    # Only strict export keeps the functions that the quantizer looks for.
    exported = torch.export.export(module, inputs, strict=True).module()
    prepared = prepare_pt2e(exported, quantizer)
    prepared(*inputs)
    return convert_pt2e(prepared)


def _rows(workload: Workload) -> dict[str, Array]:
    """Calibration rows as gcompile takes them: samples along the first dimension."""
    return {
        name: stacked.reshape(-1, *stacked.shape[2:]) if stacked.ndim > 1 else stacked[0]
        for name, stacked in workload.samples.items()
    }


def _each(workload: Workload) -> Iterator[dict[str, Array]]:
    samples = workload.samples
    for index in range(SAMPLES):
        yield {name: stacked[index] for name, stacked in samples.items()}
