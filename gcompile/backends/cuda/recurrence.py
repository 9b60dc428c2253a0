"""The steps of an RNN, GRU or LSTM as one kernel: a block for each sequence and direction.

    gates[t] = projected[t] + H[t - 1] · Rᵀ,    H[t] = cell(gates[t])

The inputs' own product with their weights, biases added, comes from a kernel before. The state
stays in shared memory; all steps run in one launch, with barriers between them. The equations of
the cells are those of ONNX (https://onnx.ai/onnx/operators), with their default activations.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gcompile.backends.cuda.kernel import Access, Argument, Kernel
from gcompile.backends.cuda.tensor_ir.prelude import PRELUDE
from gcompile.ir.recurrence import GATES

_MOST_THREADS = 1024
_WARP = 32

_CELLS = {
    "RNN": """
        h[u] = tanhf(IN(0) + gates[u]);""",
    "GRU": """
        const float update = sigmoid(IN(0) + gates[u]);
        const float next = tanhf(IN(2) + CANDIDATE);
        h[u] = (1.0f - update) * next + update * h[u];""",
    "LSTM": """
        const float entering = sigmoid(IN(0) + gates[u]) * tanhf(IN(3) + gates[3 * UNITS + u]);
        c[u] = sigmoid(IN(2) + gates[2 * UNITS + u]) * c[u] + entering;
        h[u] = sigmoid(IN(1) + gates[UNITS + u]) * tanhf(c[u]);""",
}


@dataclass(frozen=True)
class RecurrenceKernel:
    """What the steps are.

    The arguments are, in order: `projected` (steps, batch, directions, gates, hidden); `weights`
    (directions, hidden, gates, hidden), the state's own index first; for a GRU that resets inside,
    `inside` (directions, hidden), the bias of the gate that is reset; `first_h` and `first_c`
    (directions, batch, hidden) where there are any; then the results: `y` (steps, directions,
    batch, hidden), `h` and `c` (directions, batch, hidden).

    Attributes:
        backward: For each direction, whether it starts with the last step.
        resets_inside: A GRU applies its reset gate after the product with the state.
        results: Some of `y`, `h` and `c`.
    """

    operator: str
    steps: int
    batch: int
    hidden: int
    backward: tuple[bool, ...]
    resets_inside: bool
    has_first_h: bool
    has_first_c: bool
    results: tuple[str, ...]

    @property
    def gates(self) -> int:
        """Rows of weights for each hidden unit."""
        return GATES[self.operator]

    def kernel(self) -> Kernel:
        """The kernel."""
        arguments = tuple(self._arguments())
        parameters = ", ".join(
            f"{'const ' if a.access is Access.READ else ''}float* __restrict__ {a.name}"
            for a in arguments
        )
        threads = min(_MOST_THREADS, -(-self.hidden // _WARP) * _WARP)
        body = self._body(threads)
        digest = hashlib.sha256(f"{self} {parameters} {body}".encode()).hexdigest()[:16]
        name = f"{self.operator.lower()}_{digest}"
        opening = f'extern "C" __global__ void __launch_bounds__({threads}) {name}({parameters})'
        directions = len(self.backward)
        return Kernel(
            name=name,
            source=f"{PRELUDE}{opening} {{\n{body}}}\n",
            grid=(self.batch, directions, 1),
            block=(threads, 1, 1),
            arguments=arguments,
            operations=2 * self.steps * self.batch * directions * self.gates * self.hidden**2,
        )

    def _arguments(self) -> list[Argument]:
        count, state = len(self.backward), len(self.backward) * self.batch * self.hidden
        sizes = {
            "projected": self.steps * state * self.gates,
            "weights": count * self.hidden**2 * self.gates,
        }
        if self.resets_inside:
            sizes["inside"] = count * self.hidden
        sizes |= {"first_h": state} if self.has_first_h else {}
        sizes |= {"first_c": state} if self.has_first_c else {}
        read = [Argument(name, "float32", size) for name, size in sizes.items()]
        written = {"y": self.steps * state, "h": state, "c": state}
        names = {"y": "y", "h": "last_h", "c": "last_c"}
        return read + [
            Argument(names[result], "float32", written[result], Access.WRITE)
            for result in self.results
        ]

    def _body(self, threads: int) -> str:
        units, gates = self.hidden, self.gates
        count, lines = len(self.backward), self.gates * self.hidden
        every = f"for (int u = threadIdx.x; u < {units}; u += {threads})"
        here = f"(blockIdx.y * {self.batch} + blockIdx.x) * {units} + u"
        walks_back = " || ".join(
            f"blockIdx.y == {i}" for i, back in enumerate(self.backward) if back
        )
        early = lines - units if self.operator == "GRU" and not self.resets_inside else lines
        first_h = f"first_h[{here}]" if self.has_first_h else "0"
        first_c = f"first_c[{here}]" if self.has_first_c else "0"
        cell = (
            _CELLS[self.operator]
            .replace("CANDIDATE", self._candidate())
            .replace("UNITS", str(units))
        )
        for gate in range(gates):
            cell = cell.replace(f"IN({gate})", f"projected[at + {gate * units}]")
        text = f"  __shared__ float h[{units}], c[{units}], gates[{lines}];\n"
        text += f"  PHASE {{ {every} {{ h[u] = {first_h}; c[u] = {first_c}; }} }}\n"
        text += "  __syncthreads();\n"
        text += f"  for (int step = 0; step < {self.steps}; ++step) {{\n"
        text += f"    const int t = {walks_back or 'false'} ? {self.steps - 1} - step : step;\n"
        text += self._multiply("h", 0, early, threads)
        place = f"((t * {self.batch} + blockIdx.x) * {count} + blockIdx.y) * {lines} + u"
        if early < lines:
            reset = f"sigmoid(projected[{place} + {units}] + gates[{units} + u])"
            text += f"    PHASE {{ {every} c[u] = {reset} * h[u]; }}\n    __syncthreads();\n"
            text += self._multiply("c", early, lines, threads)
        text += f"    PHASE {{\n      {every} {{\n        const int at = {place};"
        text += cell + "\n"
        if "y" in self.results:
            pitch = f"((t * {count} + blockIdx.y) * {self.batch} + blockIdx.x) * {units} + u"
            text += f"        y[{pitch}] = h[u];\n"
        text += "      }\n    }\n    __syncthreads();\n  }\n"
        for name in self.results:
            if name != "y":
                text += f"  PHASE {{ {every} last_{name}[{here}] = {name}[u]; }}\n"
        return text

    def _candidate(self) -> str:
        if not self.resets_inside:
            return "gates[2 * UNITS + u]"
        inside = "(gates[2 * UNITS + u] + inside[blockIdx.y * UNITS + u])"
        return f"sigmoid(IN(1) + gates[UNITS + u]) * {inside}"

    def _multiply(self, state: str, first: int, last: int, threads: int) -> str:
        """Multiply a state by some rows of the weights; neighbouring threads read neighbours."""
        pitch = self.gates * self.hidden
        return (
            "    PHASE {\n"
            f"      for (int line = {first} + threadIdx.x; line < {last}; line += {threads}) {{\n"
            "        float sum = 0;\n"
            f"        for (int k = 0; k < {self.hidden}; ++k)\n"
            f"          sum += {state}[k] * "
            f"weights[(blockIdx.y * {self.hidden} + k) * {pitch} + line];\n"
            "        gates[line] = sum;\n"
            "      }\n"
            "    }\n"
            "    __syncthreads();\n"
        )
