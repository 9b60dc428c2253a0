"""A plan in the memory of one GPU: kernels loaded, weights uploaded, one arena.

What an inference launches never depends on values, so all of it is recorded once as a CUDA graph
and then started as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gcompile.errors import ArtifactError, RunError
from gcompile.runtime.cuda.device import why_not_on
from gcompile.runtime.cuda.driver import Driver
from gcompile.runtime.cuda.plan import Code, Place, Plan, Step
from gcompile.runtime.weights import Array

_ALIGNMENT_BYTES = 256
_MOST_GRAPHS = 8


@dataclass(frozen=True)
class Addresses:
    """Where the inputs and outputs of an inference are in device memory."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Session:
    """One plan on one GPU. Made by `open_session`.

    Attributes:
        staging: Memory of the session's own for inputs and outputs.
        bytes: Device memory that the session holds.
    """

    driver: Driver
    device: int
    plan: Plan
    functions: Sequence[int]
    stream: int
    base: int
    weights: Sequence[int]
    staging: Addresses
    bytes: int
    graphs: dict[Addresses, int] = field(default_factory=dict)

    def put(self, addresses: Addresses, stream: int) -> None:
        """Put one inference into a queue, launch by launch."""
        for step in self.plan.steps:
            self._put(step, addresses, stream)

    def start(self, addresses: Addresses, stream: int) -> None:
        """Put one inference into a queue as a whole, recorded when these addresses are new."""
        if addresses not in self.graphs:
            if len(self.graphs) >= _MOST_GRAPHS:
                oldest = next(iter(self.graphs))
                self.driver.wait(stream)
                self.driver.forget(self.graphs.pop(oldest))
            self.graphs[addresses] = self._record(addresses)
        self.driver.start(self.graphs[addresses], stream)

    def enter(self) -> None:
        """Make the GPU the calling thread's own."""
        self.driver.enter(self.device)

    def close(self) -> None:
        """Give the memory back."""
        self.enter()
        self.driver.wait(self.stream)
        for graph in self.graphs.values():
            self.driver.forget(graph)
        self.graphs.clear()
        self.driver.release(self.base)

    def _record(self, addresses: Addresses) -> int:
        self.driver.begin_capture(self.stream)
        self.put(addresses, self.stream)
        return self.driver.end_capture(self.stream)

    def _put(self, step: Step, addresses: Addresses, stream: int) -> None:
        places = [self._address(place, addresses) for place in step.places]
        if step.does == "copy":
            self.driver.copy(places[0], places[1], step.places[0].bytes, stream)
        elif step.does == "zero":
            self.driver.zero(places[0], step.places[0].bytes, stream)
        else:
            kernel = self.plan.kernels[step.kernel]
            function = self.functions[step.kernel]
            self.driver.launch(
                function, kernel.grid, kernel.block, kernel.shared_bytes, stream, places
            )

    def _address(self, place: Place, addresses: Addresses) -> int:
        match place.space:
            case "arena":
                return self.base + place.at
            case "weight":
                return self.weights[place.at]
            case "input":
                return addresses.inputs[place.at]
            case "output":
                return addresses.outputs[place.at]


def open_session(
    driver: Driver,
    device: int,
    plan: Plan,
    folder: Path,
    weights: Sequence[Array],
    sizes: Mapping[str, Sequence[int]],
) -> Session:
    """Load a plan's kernels into a GPU and its weights into memory.

    Args:
        driver: The driver.
        device: Which GPU.
        plan: What will run.
        folder: The artefact.
        weights: In the plan's order.
        sizes: Bytes of each `input` and `output`.

    Raises:
        ArtifactError: The GPU or its driver cannot run the code.
        RunError: There is not enough free memory; nothing was loaded.
    """
    found = driver.device(device)
    reason = why_not_on(found, plan.codes, driver.version, plan.driver)
    if reason:
        raise ArtifactError(f"The artefact cannot run on GPU {device}: {reason}.")
    driver.enter(device)
    offset, places = _aligned(plan.arena_bytes), []
    for size in (*(array.nbytes for array in weights), *sizes["input"], *sizes["output"]):
        places.append(offset)
        offset = _aligned(offset + size)
    free = driver.free_bytes()
    if offset > free:
        raise RunError(
            f"The model needs {_mebibytes(offset)} MiB of GPU memory and {_mebibytes(free)} MiB "
            f"are free on GPU {device}, {found.name}; stop other processes that use it, or take "
            "another GPU with device=N."
        )
    functions = _load(driver, plan, folder, found.major, found.minor)
    base, stream = driver.allocate(offset), driver.new_stream()
    addresses = [base + place for place in places]
    for array, address in zip(weights, addresses[: len(weights)], strict=True):
        driver.upload(address, array.ctypes.data, array.nbytes, stream)
    driver.wait(stream)
    inputs = tuple(addresses[len(weights) :][: len(sizes["input"])])
    outputs = tuple(addresses[len(weights) + len(inputs) :])
    return Session(
        driver,
        device,
        plan,
        functions,
        stream,
        base,
        addresses[: len(weights)],
        Addresses(inputs, outputs),
        offset,
    )


def _load(driver: Driver, plan: Plan, folder: Path, major: int, minor: int) -> list[int]:
    """Machine code if there is any for this GPU, else PTX: the nearest older architecture."""
    fitting = [code for code in plan.codes if code.runs_on(major, minor)]
    code: Code = max(fitting, key=lambda code: (code.format == "cubin", code.arch))
    content = (folder / code.file).read_bytes()
    functions = []
    for (start, size), kernel in zip(code.spans, plan.kernels, strict=True):
        module = driver.load(content[start : start + size])
        functions.append(driver.function(module, kernel.name, kernel.shared_bytes))
    return functions


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _mebibytes(size: int) -> int:
    return -(-size // 2**20)
