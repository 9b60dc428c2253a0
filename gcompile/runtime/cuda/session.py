"""A plan in the memory of one GPU: kernels loaded, weights uploaded, one arena.

What an inference launches never depends on values, so all of it is recorded once as a CUDA graph
and then started as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from gcompile.errors import ArtifactError, RunError
from gcompile.runtime.cuda.device import why_not_on
from gcompile.runtime.cuda.driver import Driver
from gcompile.runtime.cuda.image import is_whole
from gcompile.runtime.cuda.plan import Code, Place, Plan, Step
from gcompile.runtime.untrusted import REMEDY
from gcompile.runtime.weights import Array

_ALIGNMENT_BYTES = 256
_MOST_GRAPHS = 8
_POINTER_BYTES = 8


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
        elsewhere: The queue of someone else that was used last, whose end `done` marks.
    """

    driver: Driver
    device: int
    plan: Plan
    modules: Sequence[int]
    functions: Sequence[int]
    stream: int
    done: int
    base: int
    weights: Sequence[int]
    staging: Addresses
    bytes: int
    graphs: dict[Addresses, int] = field(default_factory=dict)
    elsewhere: int | None = None
    is_open: bool = True

    def put(self, addresses: Addresses, stream: int) -> None:
        """Put one inference into a queue, launch by launch."""
        self._take_turns(stream)
        self._put_all(addresses, stream)
        self._mark(stream)

    def start(self, addresses: Addresses, stream: int) -> None:
        """Put one inference into a queue as a whole, recorded when these addresses are new."""
        if addresses not in self.graphs:
            if len(self.graphs) >= _MOST_GRAPHS:
                oldest = next(iter(self.graphs))
                self.driver.wait(stream)
                self.driver.forget(self.graphs.pop(oldest))
            self.graphs[addresses] = self._record(addresses)
        self._take_turns(stream)
        self.driver.start(self.graphs[addresses], stream)
        self._mark(stream)

    def enter(self) -> None:
        """Make the GPU the calling thread's own.

        Raises:
            RunError: The session was closed.
        """
        if not self.is_open:
            raise RunError("The runner was closed; load the artefact again.")
        self.driver.enter(self.device)

    def close(self) -> None:
        """Give the memory back, when all that was put into queues is done."""
        if not self.is_open:
            return
        self.enter()
        self.is_open = False
        self.driver.wait(self.stream)
        if self.elsewhere is not None:
            self.driver.wait_for(self.done)
        for graph in self.graphs.values():
            self.driver.forget(graph)
        self.graphs.clear()
        self.driver.release(self.base)
        self.driver.end_event(self.done)
        self.driver.end_stream(self.stream)
        for module in self.modules:
            self.driver.unload(module)

    def _take_turns(self, stream: int) -> None:
        """The arena holds one inference at a time: another queue waits for the last one's end."""
        if self.elsewhere is not None and self.elsewhere != stream:
            self.driver.wait_in(stream, self.done)

    def _mark(self, stream: int) -> None:
        """The session's own queue is waited for by whoever uses it; others are not."""
        if stream != self.stream:
            self.driver.mark(self.done, stream)
            self.elsewhere = stream
        else:
            self.elsewhere = None

    def _record(self, addresses: Addresses) -> int:
        self.driver.begin_capture(self.stream)
        try:
            self._put_all(addresses, self.stream)
        except RunError:
            self.driver.drop_capture(self.stream)
            raise
        return self.driver.end_capture(self.stream)

    def _put_all(self, addresses: Addresses, stream: int) -> None:
        for step in self.plan.steps:
            self._put(step, addresses, stream)

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
    images = _images(plan, folder, found.major, found.minor)
    with ExitStack() as undo:
        modules, functions = _load(driver, plan, images, undo)
        base = driver.allocate(offset)
        undo.callback(driver.release, base)
        stream = driver.new_stream()
        undo.callback(driver.end_stream, stream)
        addresses = [base + place for place in places]
        for array, address in zip(weights, addresses[: len(weights)], strict=True):
            driver.upload(address, array.ctypes.data, array.nbytes, stream)
        driver.wait(stream)
        inputs = tuple(addresses[len(weights) :][: len(sizes["input"])])
        outputs = tuple(addresses[len(weights) + len(inputs) :])
        done = driver.new_event()
        undo.pop_all()
    return Session(
        driver,
        device,
        plan,
        modules,
        functions,
        stream,
        done,
        base,
        addresses[: len(weights)],
        Addresses(inputs, outputs),
        offset,
    )


def _images(plan: Plan, folder: Path, major: int, minor: int) -> list[bytes]:
    """Machine code if there is any for this GPU, else PTX: the nearest older architecture.

    Raises:
        ArtifactError: A kernel's code is not within the file, or is not whole.
    """
    fitting = [code for code in plan.codes if code.runs_on(major, minor)]
    code: Code = max(fitting, key=lambda code: (code.format == "cubin", code.arch))
    content = (folder / code.file).read_bytes()
    images = [content[start : start + size] for start, size in code.spans]
    for image, (_, size), kernel in zip(images, code.spans, plan.kernels, strict=True):
        if len(image) != size or not is_whole(image, code.format):
            raise ArtifactError(
                f"The code of the kernel {kernel.name!r:.80} in {code.file} is damaged. {REMEDY}"
            )
    return images


def _load(
    driver: Driver, plan: Plan, images: Sequence[bytes], undo: ExitStack
) -> tuple[list[int], list[int]]:
    modules, functions = [], []
    for image, kernel in zip(images, plan.kernels, strict=True):
        modules.append(driver.load(image))
        undo.callback(driver.unload, modules[-1])
        functions.append(driver.function(modules[-1], kernel.name, kernel.shared_bytes))
    _check_arguments(driver, plan, functions)
    return modules, functions


def _check_arguments(driver: Driver, plan: Plan, functions: Sequence[int]) -> None:
    """The driver reads as many arguments as a kernel has, whatever a plan gives it.

    Raises:
        ArtifactError: A step gives a kernel other arguments than it takes.
    """
    taken = [driver.parameters(function) for function in functions]
    for step in plan.steps:
        sizes = taken[step.kernel] if step.does == "launch" else None
        if sizes is not None and sizes != [_POINTER_BYTES] * len(step.places):
            raise ArtifactError(
                f"The artefact's plan gives the kernel {plan.kernels[step.kernel].name!r:.80} "
                f"other arguments than it takes. {REMEDY}"
            )


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _mebibytes(size: int) -> int:
    return -(-size // 2**20)
