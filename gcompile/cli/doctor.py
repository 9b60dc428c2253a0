"""`gcompile doctor`: is everything here that a build needs, and what to do if not."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

import typer

from gcompile.cli.options import Format, FormatOption
from gcompile.cli.output import show, show_json

if TYPE_CHECKING:
    from rich.table import Table

BROKEN = 3

_INSTALL = "pip install -c constraints.txt gcompile"
_IMPORTS = {"apache-tvm": "tvm", "onnxruntime": "onnxruntime", "onnx-ir": "onnx_ir"}
_OPTIONAL = {
    "networkx": "derived graphs",
    "onnx-graphsurgeon": "passes written for graphsurgeon",
    "openvino": "side-by-side benchmarks",
    "torch": "training the example model",
    "zeus": "measuring GPUs, Apple chips and Jetsons",
}
_LINKERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")
_IMPORT_LIMIT_S = 120
_RELEVANT_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when it is fine or only informs."""

    name: str
    value: str
    ok: bool = True
    remedy: str = ""


def doctor(format_: FormatOption = Format.TEXT) -> None:
    """Check versions, pins, instruction sets, threads and tools; exit with 3 if one is broken."""
    findings = list(_findings())
    if format_ is Format.JSON:
        show_json(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show(_table(findings))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(BROKEN)


def _findings() -> Iterator[Finding]:
    yield Finding("gcompile", _version("gcompile") or "not installed, running from its sources")
    yield Finding("python", platform.python_version())
    yield from _requirements()
    yield from _imports()
    yield from _machine()
    yield _linker()
    yield from _cuda()
    yield from _meters()
    for name, purpose in _OPTIONAL.items():
        yield Finding(name, _version(name) or f"not installed (optional: {purpose})")


def _requirements() -> Iterator[Finding]:
    """Every library that the package's own metadata requires, against its version range."""
    for requirement in _required():
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        name = match.group() if match else requirement
        ranges = requirement[len(name) :].strip(" ()")
        found = _version(name)
        if found is None:
            yield Finding(name, "not installed", False, _INSTALL)
        elif not satisfies(found, ranges):
            remedy = f"pip install '{name}{ranges}'"
            yield Finding(name, f"{found}, but {ranges} is needed", False, remedy)
        else:
            yield Finding(name, f"{found} ({ranges})")


def _required() -> list[str]:
    try:
        listed = requires("gcompile") or []
    except PackageNotFoundError:
        return list(_IMPORTS)
    return sorted(line for line in listed if ";" not in line)


def satisfies(found: str, ranges: str) -> bool:
    """Whether a version lies in a range such as `>=0.1.14.post0,<0.1.15`."""
    for part in filter(None, (part.strip() for part in ranges.split(","))):
        match = re.fullmatch(r"(==|>=|<=|<|>)\s*(.+)", part)
        if match is None:
            continue
        operator, bound = match.groups()
        one, other = _order(found), _order(bound)
        holds = {
            "==": one == other,
            ">=": one >= other,
            "<=": one <= other,
            "<": one < other,
            ">": one > other,
        }
        if not holds[operator]:
            return False
    return True


def _order(text: str) -> tuple[int, ...]:
    """A release as numbers: local parts after `+` do not count, post-releases come after."""
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0]))


def _imports() -> Iterator[Finding]:
    """Import in a process of its own: a library that does not fit may crash it."""
    for name, module in _IMPORTS.items():
        if _version(name) is None:
            continue
        error = _import_error(module)
        remedy = f"pip install --force-reinstall -c constraints.txt {name}" if error else ""
        yield Finding(f"import {module}", error or "works", not error, remedy)


def _import_error(module: str) -> str:
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_IMPORT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not finish in {_IMPORT_LIMIT_S} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"ended with code {done.returncode}"


def _machine() -> Iterator[Finding]:
    from gcompile.errors import GcompileError
    from gcompile.runtime.isa import cpu_flags
    from gcompile.runtime.threads import available_cpus
    from gcompile.targets import load_target

    flags = cpu_flags()
    shown = [flag for flag in _RELEVANT_FLAGS if flag in flags]
    yield Finding("instructions", " ".join(shown) or "none that gcompile has kernels for")
    usable, present = len(available_cpus()), os.cpu_count() or 1
    yield Finding("threads", f"{usable} usable of {present}")
    try:
        target = load_target("cpu")
    except GcompileError as error:
        yield Finding("target cpu", str(error), False, "Name a target with --target instead.")
    else:
        yield Finding("target cpu", target.description)


def _linker() -> Finding:
    """TVM links the native code with the first of these."""
    named = [os.environ.get("CXX"), os.environ.get("CC"), *_LINKERS]
    found = next((path for path in map(shutil.which, filter(None, named)) if path), None)
    if found:
        return Finding("linker", found)
    remedy = "Install a C compiler with its linker, such as the system package gcc."
    return Finding("linker", f"none of {', '.join(_LINKERS)}", False, remedy)


def _cuda() -> Iterator[Finding]:
    """Building for NVIDIA GPUs is optional, so nothing missing here is broken."""
    from gcompile.backends.cuda import host_form
    from gcompile.backends.cuda.toolchain import nvrtc
    from gcompile.errors import GcompileError
    from gcompile.runtime.cuda.device import gpus

    try:
        compiler = nvrtc()
    except GcompileError as error:
        yield Finding("nvrtc", f"{error} (optional: building for NVIDIA GPUs)")
    else:
        version = ".".join(map(str, compiler.version))
        newest = max(compiler.architectures)
        yield Finding("nvrtc", f"{version}, up to sm_{newest}, {compiler.path}")
    reason = host_form.why_unavailable()
    yield Finding("kernels of GPUs on the CPU", reason or "can be checked")
    yield Finding("nvidia gpu", gpus())


def _meters() -> Iterator[Finding]:
    """Estimates need none, so a meter that is missing is nothing broken."""
    from gcompile.energy.meters import Meter, NvmlMeter, RaplMeter, ZeusMeter

    meters: dict[str, Meter] = {
        "rapl": RaplMeter(),
        "nvml": NvmlMeter(),
        "zeus": ZeusMeter("cpu"),
        "zeus for GPUs": ZeusMeter("gpu"),
    }
    for name, meter in meters.items():
        reason = meter.why_unavailable()
        yield Finding(f"meter {name}", f"unavailable: {reason}" if reason else meter.method)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _table(findings: list[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("BROKEN", "bold red")
        table.add_row(mark, Text(finding.name), Text(finding.value))
        if finding.remedy:
            table.add_row("", "", Text(f"fix: {finding.remedy}", "yellow"))
    return table
