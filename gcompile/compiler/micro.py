"""Micro-benchmarks of the device at hand: generated, compiled, and measured one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gcompile import energy, ir
from gcompile.compiler import compile
from gcompile.energy import Cost, Roofline, meters
from gcompile.energy.calibration import Reading, calibrated_device
from gcompile.targets import Target

Prepare = Callable[["Micro", Target], tuple[Callable[[], None], Cost]]
Progress = Callable[[str, float], None]

_RUN_S = 0.05
_MOST_QUEUED = 10_000
_FLOATS = (ir.Precision.FP32, ir.Precision.BF16)


@dataclass(frozen=True)
class Micro:
    """One micro-benchmark.

    Attributes:
        isolates: See `Reading.isolates`.
        text: The model in ONNX text; inputs called `w…` are constants.
        precision: What it is compiled to; None as it is written.
    """

    name: str
    isolates: str
    text: str
    precision: ir.Precision | None = None

    @property
    def model(self) -> ir.Model:
        """The model, with seeded random weights."""
        header = f'<ir_version: 10, opset_import: ["" : {ir.OPSET}]>\n'
        model = ir.parse(header + self.text)
        rng = np.random.default_rng(0)
        for value in [v for v in model.graph.inputs if str(v.name).startswith("w")]:
            model.graph.inputs.remove(value)
            value.const_value = ir.tensor(_weights(value, rng), name=value.name)
            model.graph.register_initializer(value)
        return model


def calibrate_by_meter(
    base: Target,
    meter: meters.Meter,
    plan: meters.Plan | None = None,
    clock: meters.Clock | None = None,
    prepare: Prepare | None = None,
    progress: Progress | None = None,
) -> Target:
    """Run every micro-benchmark under the meter and set the device's numbers.

    Args:
        base: The machine this runs on.
        meter: What reads the joules; its boundary becomes the target's.
        plan: Windows and repeats of each benchmark; idle power is always charged.
        clock: The machine's clock unless a test brings its own.
        prepare: Compiles a benchmark and returns one run of it and its predicted cost.
        progress: Told what is being measured and the fraction done.

    Raises:
        MeterError: The meter is unavailable, or its readings cannot be used.
        UsageError: The plan does not fit the meter, or the readings explain nothing.
    """
    prepare, progress = prepare or compiled_run, progress or (lambda what, done: None)
    idle_w = meters.idle_power_w(meter, plan, clock)
    suite = list(micro_benchmarks(base))
    readings = []
    for index, micro in enumerate(suite):
        progress(micro.name, index / len(suite))
        run, predicted = prepare(micro, base)
        found = meters.measure(run, meter, plan, clock)
        readings.append(
            Reading(
                micro.name,
                micro.isolates,
                predicted,
                found.joules_per_inference,
                found.seconds_per_inference,
            )
        )
    return calibrated_device(base, idle_w, readings, meter.boundary)


def compiled_run(micro: Micro, target: Target) -> tuple[Callable[[], None], Cost]:
    """Compile a benchmark; return a run of it and what the target predicts for that run.

    On a processor a run is one inference, on one core. On a GPU it is as many as take a twentieth
    of a second by the prediction, queued: the device does not wait between them.
    """
    built = compile(micro.model, target, precision=micro.precision)
    runner = built.artifact.runner
    rng = np.random.default_rng(1)
    inputs = {
        spec.name: rng.integers(0, 255, spec.shape).astype(spec.dtype)
        if np.dtype(spec.dtype).kind in "iu"
        else rng.standard_normal(spec.shape).astype(spec.dtype)
        for spec in runner.inputs
    }
    predicted = energy.estimate(built.model, target, Roofline()).total
    if target.kind != "gpu":
        return runner.prepare(inputs), predicted
    many = runner.prepare_many(inputs)
    count = int(np.clip(_RUN_S / predicted.time_s, 1, _MOST_QUEUED))
    return (lambda: many(count)), predicted.times(count)


def micro_benchmarks(target: Target) -> Iterator[Micro]:
    """Yield the suite: launch, each unit, each level, then kernels that mix them."""
    if target.kind == "gpu":
        yield from _of_a_gpu(target)
        return
    yield Micro("launch", "launch", _relu(16))
    for precision in (p for p in _FLOATS if any(u.precision is p for u in target.units)):
        unit = target.unit_for(precision)
        yield Micro(f"fma {precision}", f"unit {unit.name}", _matmul(64, 256, 256), precision)
    int8 = target.unit_for(ir.Precision.INT8)
    if int8.precision is ir.Precision.INT8:
        yield Micro("fma int8", f"unit {int8.name}", _matmul_int8(64, 256, 256))
    inner = 0.0
    for memory in target.memories:
        # Too large for the level inside it, half of this one at most.
        size = min(3 * inner or memory.size_bytes / 4, memory.size_bytes / 2)
        yield Micro(f"stream {memory.name}", f"level {memory.name}", _relu(int(size / 8)))
        inner = memory.size_bytes
    yield Micro("gemm", "", _matmul(256, 512, 512), ir.Precision.FP32)
    yield Micro("conv", "", _conv(28, 128, 1), ir.Precision.FP32)
    yield Micro("depthwise", "vector", _conv(28, 128, 128), ir.Precision.FP32)
    yield Micro("softmax", "", "g (float[64,1000] x) => (float[64,1000] y) { y = Softmax(x) }")


def _of_a_gpu(target: Target) -> Iterator[Micro]:
    """Yield kernels that fill a GPU for longer than a launch takes.

    What its caches deliver is not isolated: a stream that fits them is over before the launch is.
    Their joules follow from the kernels that mix everything.
    """
    yield Micro("launch", "launch", _relu(16))
    for precision in (p for p in _FLOATS if any(u.precision is p for u in target.units)):
        unit = target.unit_for(precision)
        yield Micro(f"fma {precision}", f"unit {unit.name}", _matmul(4096, 4096, 4096), precision)
    int8 = target.unit_for(ir.Precision.INT8)
    if int8.precision is ir.Precision.INT8:
        yield Micro("fma int8", f"unit {int8.name}", _matmul_int8(4096, 4096, 4096))
    *_, shared, dram = target.memories
    elements = int(min(4 * shared.size_bytes, dram.size_bytes / 8) / 4)
    yield Micro(f"stream {dram.name}", f"level {dram.name}", _relu(elements))
    yield Micro("gemm", "", _matmul(1024, 1024, 1024), ir.Precision.FP32)
    yield Micro("gemv", "", _matmul(1, 4096, 8192), ir.Precision.FP32)
    yield Micro("conv", "", _conv(56, 256, 1), ir.Precision.FP32)
    yield Micro("depthwise", "vector", _conv(112, 512, 512), ir.Precision.FP32)
    softmax = "g (float[16384,1024] x) => (float[16384,1024] y) { y = Softmax(x) }"
    yield Micro("softmax", "", softmax)


def _relu(elements: int) -> str:
    shape = f"float[{max(elements, 16)}]"
    return f"g ({shape} x) => ({shape} y) {{ y = Relu(x) }}"


def _matmul(m: int, k: int, n: int) -> str:
    return f"g (float[{m},{k}] x, float[{k},{n}] w) => (float[{m},{n}] y) {{ y = MatMul(x, w) }}"


def _matmul_int8(m: int, k: int, n: int) -> str:
    return (
        f"g (uint8[{m},{k}] x, int8[{k},{n}] w, float ws, uint8 wz, int8 wzw)"
        f" => (uint8[{m},{n}] y) {{\n"
        "xf = DequantizeLinear(x, ws, wz)\n wf = DequantizeLinear(w, ws, wzw)\n"
        "c = MatMul(xf, wf)\n y = QuantizeLinear(c, ws, wz) }"
    )


def _conv(size: int, channels: int, groups: int) -> str:
    image = f"float[1,{channels},{size},{size}]"
    return (
        f"g ({image} x, float[{channels},{channels // groups},3,3] w) => ({image} y)"
        f" {{ y = Conv<group={groups}, pads=[1,1,1,1]>(x, w) }}"
    )


def _weights(value: ir.Value, rng: np.random.Generator) -> ir.Array:
    shape = ir.static_shape(value)
    if value.dtype is ir.DataType.INT8 and shape:
        return rng.integers(-127, 128, shape).astype(np.int8)
    if value.dtype in (ir.DataType.INT8, ir.DataType.UINT8):
        zero = 0 if value.dtype is ir.DataType.INT8 else 128
        return np.array(zero, np.int8 if value.dtype is ir.DataType.INT8 else np.uint8)
    if not shape:
        return np.array(0.02, np.float32)
    return (0.05 * rng.standard_normal(shape)).astype(np.float32)
