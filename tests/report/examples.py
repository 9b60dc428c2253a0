"""A model, estimates and a report to test renderings and files with."""

from __future__ import annotations

from gcompile import ir
from gcompile.energy import Cost, Estimate
from gcompile.energy.carbon import Accounting, BuildEnergy, Embodied, zone_intensity
from gcompile.ir.place import set_place
from gcompile.passes import PassRecord
from gcompile.report import Accuracy, Budget, Fidelity, Report, Verify, make_report
from gcompile.targets import Memory, Target, Unit

MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
tiny (float[1, 4] x) => (float[1, 4] y) {
    h = Relu (x)
    y = Add (h, h)
}
"""


def target() -> Target:
    """A device with round numbers."""
    return Target(
        name="test-board",
        kind="cpu",
        description="A device for tests",
        boundary="board",
        isa=frozenset({"avx2"}),
        cores=2,
        clock_hz=1e9,
        units=(Unit("avx2", "simd", ir.Precision.FP32, 1e11, 0.8, 1e-11),),
        memories=(Memory("DRAM", 1e9, 1e10, 1e-10),),
        static_w=1.0,
        launch_s=1e-6,
        launch_j=1e-6,
        relative_error=1.0,
    )


def tiny_model(module: str | None = None) -> ir.Model:
    """Two regions, named a and b; b comes from line 7 of a PyTorch module where that is named."""
    model = ir.parse(MODEL)
    if module is not None:
        _, last = model.graph
        set_place(last, module)
        last.metadata_props["pkg.torch.onnx.stack_trace"] = 'File "/home/me/net.py", line 7, in f'
    for node, name in zip(model.graph, ("a", "b"), strict=True):
        ir.assign_region(node, name)
    return model


def estimate(scale: float = 1.0) -> Estimate:
    """An estimate of 10 uJ times the scale: a costs 8, b costs 2."""
    regions = {
        "a": Cost(
            4e-6 * scale,
            {"L1": 1e-6 * scale, "DRAM": 2e-6 * scale},
            0.5e-6 * scale,
            0.5e-6 * scale,
            3e-6,
        ),
        "b": Cost(1e-6 * scale, {"L1": 1e-6 * scale}, 0.0, 0.0, 1e-6),
    }
    total = sum(regions.values(), Cost())
    return Estimate("roofline", "board", "full", total, regions, 1.0)


def records() -> tuple[PassRecord, ...]:
    """A pipeline of two passes and a pass that was reverted."""
    fold = PassRecord("fold-batch-norm", 12, 0.01, estimate(2), estimate(), {"weight shared": 2})
    idle = PassRecord("remove-dead-nodes", 0, 0.0, estimate(), estimate())
    exact = PassRecord("exact", 12, 0.01, estimate(2), estimate(), {}, True, (fold, idle))
    return exact, PassRecord("convert-bfloat16", 3, 0.1, estimate(), estimate(), kept=False)


def report(
    *,
    model_name: str = "tiny",
    budget: str | None = "-40%",
    message: str = "",
    notes: tuple[str, ...] = ("Batch dimension N is bound to 1.",),
    accuracy: bool = True,
    carbon: bool = False,
    module: str | None = None,
) -> Report:
    """A report on the tiny model, as a compilation would make it."""
    return make_report(
        model=tiny_model(module),
        model_name=model_name,
        target=target(),
        before=estimate(2),
        exact=estimate(2),
        after=estimate(),
        passes=records(),
        verify=Verify(max_abs_error=1e-7, cosine=1.0, tolerance=1e-4, rows=8),
        message=message,
        budget=Budget.parse(budget) if budget else None,
        accuracy=Accuracy(metric="top1", reference=0.99, compiled=0.985, rows=200, max_drop=0.01)
        if accuracy
        else None,
        fidelity=Fidelity(sqnr_db=35.2, cosine=0.9999, rows=64),
        errors={"a": 3.0, "b": 1.0},
        fallbacks={"b": "no kernel for Add of these shapes"},
        notes=notes,
        carbon=Accounting(zone_intensity("DE"), 1000, Embodied(150.0, 4.0)) if carbon else None,
        build=BuildEnergy(12.0, 4.0, 24.0, 96.0) if carbon else None,
    )
