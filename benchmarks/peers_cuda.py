"""gcompile beside PyTorch, torch.compile, ONNX Runtime and TensorRT on the NVIDIA GPU here.

    python -m benchmarks.peers_cuda [--quick] [--networks resnet50,bert-base] [--json out.json]

Five networks, batches of 1, 8 and 64, and float32 (tf32 for the others), fp16, bf16 and int8:
seconds of single inferences and of queues, and joules by NVML over windows of seconds. gcompile
is built for this GPU first; its results are held against its plan run on a CPU. Who is not
installed, or does not offer a precision, is a row with the reason. A run that is stopped goes on
where it was.

Exit codes: 0 all that could run did, 1 something failed, 4 there is no GPU here. On a machine
without the compiler the same is run by an archive: see `benchmarks.cuda_bundle`.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.archive import peer_cases, write_quantized
from benchmarks.gpu.bare.case import Case, Row, read_rows
from benchmarks.gpu.bare.main import NO_GPU, run_all, why_no_gpu
from benchmarks.gpu.bare.peers import PEERS
from benchmarks.gpu.models import NETWORKS, Wanted, build, remove

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_TARGET = "cuda"
_CEILING = Case("ceiling", "ceiling", {"size": 8192, "dtypes": ["bfloat16", "float16"]}, 60.0)
_A_DAY_S = 86_400.0


def main() -> int:
    arguments = _parse()
    if reason := why_no_gpu(arguments.device):
        print(f"Nothing is measured: {reason}.")
        return NO_GPU
    folder: Path = arguments.work
    folder.mkdir(parents=True, exist_ok=True)
    refused: list[Row] = []
    networks = {name: NETWORKS[name] for name in arguments.networks}
    limits = arguments.seconds, arguments.device, arguments.again
    try:
        cases = [*_ours(arguments, folder, refused), _CEILING]
        cases += peer_cases(
            networks, arguments.batches, folder, arguments.peers, arguments.precisions
        )
        if "TensorRT" in arguments.peers and "int8" in arguments.precisions:
            cases = [_with_quantized(case, folder) for case in cases]
        return run_all(cases, folder, arguments.json, limits, refused)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def _ours(arguments: argparse.Namespace, folder: Path, refused: list[Row]) -> Iterator[Case]:
    """Artefacts for this GPU; `refused` is told why there is none."""
    rows = read_rows(arguments.json)
    failed = {row.case for row in rows if row.status == "failed"} if arguments.again else set()
    done = {row.case for row in rows if not row.item and row.status != "left out"} - failed
    for batch, precision, name in itertools.product(
        arguments.batches, arguments.precisions, arguments.networks
    ):
        wanted = Wanted(name, precision, batch, _TARGET)
        settings = {"network": name, "precision": precision, "batch": batch}
        case = Case(f"artefact/{wanted.name}", "artefact", settings)
        if case.name not in done:
            try:
                case = build(wanted, folder, drawn=False)
            except Exception as error:  # One network that cannot be built costs one row.
                remove(wanted, folder)
                reason = f"{type(error).__name__}: {error}"[:300]
                refused.append(Row(case.name, "", "failed", f"not built: {reason}"))
        yield case


def _with_quantized(case: Case, folder: Path) -> Case:
    """TensorRT's int8 case with the models that it takes for it."""
    if case.settings.get("peer") != "TensorRT" or case.settings["precision"] != "int8":
        return case
    if importlib.util.find_spec("tensorrt") is None:
        return case
    called = NETWORKS[case.settings["network"]]
    files = {
        str(batch): write_quantized(called, batch, folder / "models")
        for batch in case.settings["batches"]
    }
    return replace(case, settings=case.settings | {"quantized": files})


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 1 in bf16, no torch.compile")
    parser.add_argument("--networks", type=_words, default=list(NETWORKS))
    parser.add_argument("--precisions", type=_words)
    parser.add_argument("--batches", type=lambda text: [int(n) for n in _words(text)])
    parser.add_argument("--peers", type=_words)
    parser.add_argument("--device", type=int, default=0, help="which GPU, as the driver counts")
    parser.add_argument("--seconds", type=float, default=_A_DAY_S, help="how long all may take")
    parser.add_argument("--json", type=Path, default=Path("peers_cuda.json"))
    parser.add_argument("--work", type=Path, default=Path("peers_cuda.work"))
    parser.add_argument("--keep", action="store_true", help="keep the folder of --work")
    parser.add_argument("--again", action="store_true", help="run cases that failed once more")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.precisions = arguments.precisions or (["bf16"] if quick else list(PRECISIONS))
    arguments.batches = arguments.batches or ([1] if quick else [1, 8, 64])
    arguments.peers = arguments.peers or [p for p in PEERS if not quick or p != "torch.compile"]
    for kind, known in (("networks", NETWORKS), ("precisions", PRECISIONS), ("peers", PEERS)):
        if unknown := set(getattr(arguments, kind)) - set(known):
            parser.error(f"Unknown in --{kind}: {min(unknown)}. Known: {', '.join(known)}.")
    return arguments


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
