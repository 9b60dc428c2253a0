"""The launches that kernel tests make, compiled, so that a machine without the compiler has them.

The tests run here, on the interpreter of tile programs and on CPU forms, and pass; what they
launched and what memory held before and after is kept (`pytest --record-launches`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.bare.case import Case
from gcompile.backends.cuda.toolchain import MachineCode, nvrtc
from gcompile.errors import CompileError

_TESTS = ("tests/backends/cuda/kernels", "tests/backends/cuda/tensor_ir")
_LIMIT_S = 20.0
_MORE_THAN_ITS_OWN = ("a", "f")


@dataclass(frozen=True)
class Launch:
    """One launch of a test.

    Attributes:
        test: Its name, from the file on.
        kernel: The fields of `gcompile.backends.cuda.kernel.Kernel`.
        arrays: The file that holds its arguments.
    """

    test: str
    kernel: dict[str, Any]
    arrays: Path


def record_launches(root: Path, folder: Path, tests: Sequence[str] = _TESTS) -> list[Launch]:
    """Run the kernel tests and return what they launched.

    Args:
        root: The repository.
        folder: Where arguments are kept.
        tests: Which tests.

    Raises:
        CompileError: A test fails.
    """
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not gpu"),
        *("--hypothesis-seed=0", f"--record-launches={folder}", *tests),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(f"Kernel tests fail:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    return list(_read(folder))


def pack_launches(launches: Sequence[Launch], archs: Sequence[int], folder: Path) -> list[Case]:
    """Compile and write all launches, a case for each file of tests.

    Args:
        launches: What was recorded.
        archs: Architectures to make machine code for, 80 for sm_80; PTX of the oldest of them
            that a kernel runs on is kept for others.
        folder: Of the archive.
    """
    groups: dict[str, list[Launch]] = defaultdict(list)
    for launch in launches:
        groups[Path(launch.test.partition("::")[0]).stem.removeprefix("test_")].append(launch)
    (folder / "kernels").mkdir(parents=True, exist_ok=True)
    return [_pack(name, group, archs, folder) for name, group in sorted(groups.items())]


def _read(folder: Path) -> Iterator[Launch]:
    for path in sorted(folder.glob("*.json")):
        item = json.loads(path.read_text(encoding="utf-8"))
        yield Launch(item["test"], item["kernel"], path.with_suffix(".npz"))


def _pack(name: str, group: Sequence[Launch], archs: Sequence[int], folder: Path) -> Case:
    stem = folder / "kernels" / name
    arrays: dict[str, np.ndarray] = {}
    listed: list[dict[str, Any]] = []
    codes = _compiled([launch.kernel for launch in group], archs)
    with stem.with_suffix(".bin").open("wb") as out:
        places: dict[bytes, int] = {}
        for index, launch in enumerate(group):
            entries = []
            for format_, arch, image in codes[launch.kernel["source"]]:
                if image not in places:
                    places[image] = out.tell()
                    out.write(image)
                entries.append(
                    {
                        "format": format_,
                        "arch": arch,
                        "start": places[image],
                        "size": len(image),
                    }
                )
            listed.append(_described(index, launch, entries, arrays))
    stem.with_suffix(".json").write_text(json.dumps(listed), encoding="utf-8")
    with stem.with_suffix(".npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    settings = {"stem": f"kernels/{name}", "launches": len(group)}
    return Case(f"kernels/{name}", "kernels", settings, _LIMIT_S)


def _described(
    index: int, launch: Launch, codes: list[dict[str, Any]], arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    kernel = launch.kernel
    with np.load(launch.arrays) as held:
        for key in held.files:
            arrays[f"{index}.{key}"] = held[key]
        written = [key.removeprefix("after") for key in held.files if key.startswith("after")]
    dtypes = [argument["dtype"] for argument in kernel["arguments"]]
    return {
        "name": f"{launch.test.partition('::')[2]} #{index}",
        "kernel": {
            "name": kernel["name"],
            "grid": kernel["grid"],
            "block": kernel["block"],
            "shared_bytes": kernel["dynamic_shared_bytes"],
        },
        "codes": codes,
        "before": [f"{index}.before{place}" for place in range(len(dtypes))],
        "after": {place: [f"{index}.after{place}", dtypes[int(place)]] for place in written},
    }


def _compiled(
    kernels: Sequence[dict[str, Any]], archs: Sequence[int]
) -> dict[str, list[tuple[str, int, bytes]]]:
    """By text, what can be loaded: (format, architecture, content)."""
    compiler = nvrtc()
    distinct = {kernel["source"]: kernel for kernel in kernels}
    wanted = [
        (source, arch, kernel["only_arch"] or str(arch))
        for source, kernel in distinct.items()
        for arch in _fitting(kernel, archs)
    ]

    def compiled(item: tuple[str, int, str]) -> MachineCode:
        source, _, name = item
        return compiler.compile(source, distinct[source]["name"], name)

    found: dict[str, list[tuple[str, int, bytes]]] = {source: [] for source in distinct}
    with ThreadPoolExecutor() as pool:
        for (source, arch, name), code in zip(wanted, pool.map(compiled, wanted), strict=True):
            if not found[source] and not name.endswith(_MORE_THAN_ITS_OWN):
                found[source].append(("ptx", arch, code.ptx))
            found[source].append(("cubin", arch, code.cubin))
    return found


def _fitting(kernel: dict[str, Any], archs: Sequence[int]) -> list[int]:
    if kernel["only_arch"]:
        return [arch for arch in archs if arch == int(kernel["only_arch"].rstrip("af"))]
    return [arch for arch in sorted(archs) if arch >= kernel["least_arch"]]
