"""The other contenders: PyTorch eager and compiled, ONNX Runtime's CUDA provider, TensorRT.

Each is asked for its own best settings. What is not installed, and what a contender does not
offer, is a row with the reason.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

from benchmarks.gpu.bare.case import AbsentError
from benchmarks.gpu.bare.timing import Queue, joules, timed
from benchmarks.gpu.bare.worker import Item

PEERS = ("torch eager", "torch.compile", "ONNX Runtime", "TensorRT")
_NEEDS = {
    "torch eager": "torch",
    "torch.compile": "torch",
    "ONNX Runtime": "onnxruntime",
    "TensorRT": "tensorrt",
}
_TORCH_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64"}
"""TensorRT's names of the types that inputs and outputs have, and PyTorch's."""


def peer_items(settings: dict[str, Any], folder: Path, device: int) -> Iterator[Item]:
    """One item for each batch.

    Settings are the `peer`, the `network`, the `precision`, the `batches`, and by batch the file
    that holds the network as ONNX. `tf32` are float32 tensors whose products may use tensor cores.
    """
    for batch in settings["batches"]:
        yield f"batch {batch}", partial(_measured, settings, folder, batch, device)


def _measured(settings: dict[str, Any], folder: Path, batch: int, device: int) -> dict[str, Any]:
    peer, precision = settings["peer"], settings["precision"]
    module = _NEEDS[peer]
    if importlib.util.find_spec(module) is None:
        raise AbsentError(f"{module} is not installed")
    if module == "torch":
        queue = _torch(settings["network"], precision, batch, device, peer == "torch.compile")
    else:
        files = settings.get("quantized" if precision == "int8" else "files", {})
        if str(batch) not in files:
            raise AbsentError(f"no {precision} model is carried for {peer}")
        model = folder / files[str(batch)]
        _write_shared_weights(model, int(settings["shared_bytes"]))
        make = _onnxruntime if module == "onnxruntime" else _tensorrt
        queue = make(model, precision, device)
    queue(3)
    return timed(lambda: queue(1), queue) | joules(queue, device)


def _torch(network: str, precision: str, batch: int, device: int, compiled: bool) -> Queue:
    import torch

    from benchmarks.gpu.bare.torch_networks import torch_network

    if not torch.cuda.is_available():
        raise AbsentError("PyTorch is installed without CUDA")
    if precision == "int8":
        raise AbsentError("PyTorch has no int8 kernels for whole networks on GPUs")
    torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    module, x = torch_network(network, batch)
    kind = {"tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    module = module.to(kind)
    if x.is_floating_point():
        x = x.to(kind)
    if x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    run = torch.compile(module, mode="max-autotune") if compiled else module

    def queue(count: int) -> None:
        with torch.inference_mode():
            for _ in range(count):
                run(x)
        torch.cuda.synchronize()

    return queue


def _onnxruntime(model: Path, precision: str, device: int) -> Queue:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise AbsentError("ONNX Runtime is installed without its CUDA provider (onnxruntime-gpu)")
    if precision in ("bf16", "int8"):
        raise AbsentError(f"ONNX Runtime's CUDA provider has no {precision} kernels for networks")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    provider = {"device_id": device, "use_tf32": 1, "cudnn_conv_algo_search": "EXHAUSTIVE"}
    content = _in_fp16(model) if precision == "fp16" else str(model)
    session = onnxruntime.InferenceSession(
        content, options, providers=[("CUDAExecutionProvider", provider)]
    )
    binding = session.io_binding()
    for given in session.get_inputs():
        array = _input(given.name, tuple(given.shape), given.type)
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", device)
        binding.bind_ortvalue_input(given.name, value)
    for taken in session.get_outputs():
        binding.bind_output(taken.name, "cuda", device)

    def queue(count: int) -> None:
        for _ in range(count):
            session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return queue


def _in_fp16(model: Path) -> bytes:
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise AbsentError(f"turning the model to fp16 needs {error.name}") from None
    converted = convert_float_to_float16(onnx.load(model), keep_io_types=False)
    return bytes(converted.SerializeToString())


def _tensorrt(model: Path, precision: str, device: int) -> Queue:
    import tensorrt
    import torch

    torch.cuda.set_device(device)
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, tensorrt.Logger(tensorrt.Logger.ERROR))
    if not parser.parse_from_file(str(model)):
        raise AbsentError(f"TensorRT cannot read the model: {parser.get_error(0).desc()}"[:200])
    config = builder.create_builder_config()
    # Where it has no such flag, types are those of the model.
    for flag in {"tf32": (), "int8": ("INT8", "FP16")}.get(precision, (precision.upper(),)):
        if hasattr(tensorrt.BuilderFlag, flag):
            config.set_flag(getattr(tensorrt.BuilderFlag, flag))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise AbsentError("TensorRT made no engine of the model")
    engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR)).deserialize_cuda_engine(plan)
    context, stream = engine.create_execution_context(), torch.cuda.Stream()
    kept = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(name))
        kind = getattr(torch, _TORCH_TYPES[engine.get_tensor_dtype(name).name])
        kept.append(torch.zeros(shape, device="cuda", dtype=kind))
        context.set_tensor_address(name, kept[-1].data_ptr())

    def queue(count: int, _kept: object = kept) -> None:
        for _ in range(count):
            context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()

    return queue


def _input(name: str, shape: tuple[int, ...], kind: str) -> Any:
    rng = np.random.default_rng(len(name))
    if "int" in kind:
        return rng.integers(0, 100, shape).astype("int64" if "64" in kind else "int32")
    return rng.standard_normal(shape).astype("float16" if "16" in kind else "float32")


def _write_shared_weights(model: Path, size: int) -> None:
    """The file of random numbers that all models of a folder are windows of."""
    path = model.parent / "weights.bin"
    if path.is_file() and path.stat().st_size >= size:
        return
    part = path.with_suffix(f".{os.getpid()}")
    numbers = np.random.default_rng(0).standard_normal(size // 4 + 1, np.float32)
    part.write_bytes((0.05 * numbers).tobytes())
    part.replace(path)
