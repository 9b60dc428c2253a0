"""One archive that checks and measures everything on a machine with an NVIDIA GPU.

    python -m benchmarks.cuda_bundle [-o bundle.tar.xz] [--targets nvidia-h100-sxm]

    there:  tar xf bundle.tar.xz && cd bundle && python run.py

It needs Python, numpy and a driver there, and nothing is compiled: artefacts and kernels are
machine code already. PyTorch, ONNX Runtime and TensorRT are measured where they are installed.
What cannot be built is told here and left out. With --work, a run that is stopped goes on where it
was. See docs/cuda.md, "On a machine with a GPU".
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.archive import copy_runtime, pack, peer_cases
from benchmarks.gpu.bare.case import Case, write_cases
from benchmarks.gpu.bare.peers import PEERS
from benchmarks.gpu.launches import pack_launches, record_launches
from benchmarks.gpu.models import NETWORKS, PRODUCT, Wanted, build, files_of_data, remove
from gcompile.backends.cuda.architecture import arch_of
from gcompile.errors import GcompileError
from gcompile.targets import load_target

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_ROOT = Path(__file__).parent.parent
_MOST_BYTES = 60 * 2**20
_CEILING = Case("ceiling", "ceiling", {"size": 8192, "dtypes": ["bfloat16", "float16"]}, 60.0)


def main() -> None:
    arguments = _parse()
    folder = arguments.work or Path(tempfile.mkdtemp(prefix="cuda-bundle-"))
    try:
        copy_runtime(folder)
        cases = list(_cases(arguments, folder))
        write_cases(folder / "cases.json", cases)
        size = pack(folder, arguments.output, _MOST_BYTES)
    except GcompileError as error:
        sys.exit(str(error))
    finally:
        if arguments.work is None:
            shutil.rmtree(folder)
    print(f"{arguments.output}: {len(cases)} cases, {size / 2**20:.1f} MiB")


def _cases(arguments: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """In the order in which they shall run: what is unproven first, what takes long last."""
    archs = sorted({arch_of(load_target(name)) for name in arguments.targets})
    networks = {name: NETWORKS[name] for name in arguments.networks}
    artefacts = list(_artefacts(arguments, folder))
    yield from (case for case in artefacts if not case.settings["timed"])
    if not arguments.no_kernels:
        with tempfile.TemporaryDirectory() as recorded:
            launches = record_launches(_ROOT, Path(recorded))
            yield from pack_launches(launches, archs, folder)
            print(f"{len(launches)} launches of kernels for {archs}", flush=True)
    yield from (case for case in artefacts if case.settings["timed"])
    yield _CEILING
    yield from peer_cases(
        networks, arguments.batches, folder, arguments.peers, arguments.precisions
    )


def _artefacts(arguments: argparse.Namespace, folder: Path) -> Iterator[Case]:
    for wanted in _wanted(arguments):
        start = time.monotonic()
        kept = folder / "artefacts" / f"{wanted.name}.case.json"
        if kept.is_file():
            yield Case(**json.loads(kept.read_text(encoding="utf-8")))
            continue
        try:
            case = build(wanted, folder)
            kept.write_text(json.dumps(asdict(case)), encoding="utf-8")
        except Exception as error:  # One model that cannot be built costs one line.
            remove(wanted, folder)
            print(f"{wanted.name} is left out: {type(error).__name__}: {error}"[:300], flush=True)
        else:
            print(f"{wanted.name}: built in {time.monotonic() - start:.0f} s", flush=True)
            yield case


def _wanted(arguments: argparse.Namespace) -> Iterator[Wanted]:
    for target in arguments.targets:
        for path, calib in files_of_data(arguments.data):
            for precision in ("fp32", "bf16", *(["int8"] if calib else [])):
                yield Wanted(path, precision, 1, target, calib)
        if arguments.product:
            yield Wanted(PRODUCT, "bf16", 1, target)
        yield from (
            Wanted(name, precision, batch, target)
            for batch, precision, name in itertools.product(
                arguments.batches, arguments.precisions, arguments.networks
            )
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("bundle.tar.xz"))
    parser.add_argument("--targets", type=_words, default=["nvidia-h100-sxm"])
    parser.add_argument("--networks", type=_words, default=list(NETWORKS))
    parser.add_argument("--precisions", type=_words, default=list(PRECISIONS))
    parser.add_argument("--batches", type=lambda t: [int(n) for n in _words(t)], default=[1])
    parser.add_argument("--peers", type=_words, default=list(PEERS))
    parser.add_argument("--data", type=Path, help="NAME.onnx and NAME.calib.npz, checked too")
    parser.add_argument("--product", action="store_true", help="8192³ in bfloat16; takes 6 GB")
    parser.add_argument("--no-kernels", action="store_true", help="leave the kernel checks out")
    parser.add_argument("--work", type=Path, help="keep what is packed here, and go on with it")
    arguments = parser.parse_args()
    for kind, known in (("networks", NETWORKS), ("precisions", PRECISIONS), ("peers", PEERS)):
        if unknown := set(getattr(arguments, kind)) - set(known):
            parser.error(f"Unknown in --{kind}: {min(unknown)}. Known: {', '.join(known)}.")
    return arguments


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    main()
