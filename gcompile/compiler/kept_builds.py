"""Whole builds that are kept: the same request again is answered from disk.

An entry is an artefact folder, named by everything that a build depends on: the model, the rows,
the targets, the options and the code of gcompile itself. Builds that depend on more are not kept:
those with a metric or passes of the user's, whose code may call anything, and those whose search
has a limit of time, which goes on where it was when it is started again.

As with kernels, whoever may write into the folder decides what code is loaded: it is the user's
own. An entry that is damaged is removed, and a folder that cannot be written keeps nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gcompile import ir
from gcompile.backends.tvm.artifact import Artifact
from gcompile.backends.write_artifact import STEM
from gcompile.compiler.compiled import Compiled
from gcompile.compiler.job import Job
from gcompile.compiler.remember import facts, stable_text
from gcompile.errors import GcompileError
from gcompile.report import artifact_folder, read_report
from gcompile.runtime import Manifest
from gcompile.search.metrics import METRICS

_LIMIT_BYTES = 2 << 30
"""What was used least recently goes first."""


@dataclass(frozen=True)
class KeptBuilds:
    """Artefacts of earlier builds, in one folder."""

    folder: Path
    limit_bytes: int = _LIMIT_BYTES

    def restore(self, key: str, output: Path) -> bool:
        """Write the artefact to `output` if it was built before; say whether it was."""
        entry = self.folder / key
        if not entry.is_dir():
            return False
        try:
            Manifest.read(entry).check_files(entry)
        except GcompileError:
            self.forget(key)
            return False
        with suppress(OSError):
            os.utime(entry)
        with artifact_folder(output) as folder:
            shutil.copytree(entry, folder, dirs_exist_ok=True)
        return True

    def keep(self, key: str, artifact: Path) -> None:
        """Copy an artefact into the folder, whole or not at all."""
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
            try:
                shutil.copytree(artifact, staging, dirs_exist_ok=True)
                staging.rename(self.folder / key)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            self._trim()

    def forget(self, key: str) -> None:
        """Remove an artefact."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def _trim(self) -> None:
        entries = sorted(self.folder.glob("[!.]*"), key=lambda path: path.stat().st_mtime_ns)
        sizes = {entry: sum(f.stat().st_size for f in entry.iterdir()) for entry in entries}
        excess = sum(sizes.values()) - self.limit_bytes
        for entry in entries:
            if excess <= 0:
                return
            shutil.rmtree(entry, ignore_errors=True)
            excess -= sizes[entry]


def compile_or_restore(jobs: Mapping[str, Job], output: Path, plugins: Sequence[str]) -> Compiled:
    """Build the artefact of one model, or copy that of an equal build.

    Args:
        jobs: For each variant, by its name.
        output: The folder to write, whole or not at all.
        plugins: Modules of passes that were loaded for it.
    """
    builds = kept_builds(jobs, plugins)
    key = key_of(jobs) if builds else ""
    if builds and (restored := _restored(builds, key, output)) is not None:
        return restored
    from gcompile.compiler.whole import compile_jobs  # Loads the code generators: a second.

    compiled = compile_jobs(jobs, output)
    if builds:
        builds.keep(key, output)
    return compiled


def _restored(builds: KeptBuilds, key: str, folder: Path) -> Compiled | None:
    """What an equal build gave back; None where there was none, or it was damaged."""
    if not builds.restore(key, folder):
        return None
    try:
        model, report = ir.load(folder / f"{STEM}.onnx"), read_report(folder)
    except GcompileError:
        builds.forget(key)
        return None
    return Compiled(model, Artifact(folder), report, is_restored=True)


def kept_builds(jobs: Mapping[str, Job], plugins: Sequence[str]) -> KeptBuilds | None:
    """The folder to look in; None where this build is not one that can be kept."""
    folders = {job.builds for job in jobs.values()}
    known = all(job.metric is METRICS.get(job.metric_name) for job in jobs.values())
    limited = any(job.search_s is not None for job in jobs.values())
    folder = folders.pop()
    if folder is None or plugins or limited or not known:
        return None
    return KeptBuilds(folder)


def key_of(jobs: Mapping[str, Job]) -> str:
    """A name for everything that the artefact depends on."""
    digest = hashlib.sha256()
    for fact in _all_facts(jobs):
        digest.update(len(fact).to_bytes(8, "little") + fact)
    return digest.hexdigest()


def _all_facts(jobs: Mapping[str, Job]) -> Iterator[bytes]:
    for name, job in jobs.items():
        yield name.encode()
        yield stable_text(
            (
                job.model_name,
                job.budget,
                job.max_drop,
                job.precision,
                job.passes,
                job.notes,
                job.carbon,
                job.evaluations,
                job.quantization,
                job.prune,
                job.executor,
            )
        ).encode()
        yield from facts(job, job.model)
