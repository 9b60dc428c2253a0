"""Put the artefacts of several models into one, whose entry points they become.

    prefill: prefill.so, weights.bin            prefill.so, decode.so
    decode:  decode.so, weights.bin      →      weights.bin, every tensor once

Weights are read through memory maps and written one by one, so that however many entry points
there are, no more than one tensor is in memory. Libraries with the same bytes are kept once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from gcompile.errors import UsageError
from gcompile.runtime.entry_point import EntryPoint
from gcompile.runtime.ladder import Ladder
from gcompile.runtime.manifest import WEIGHTS_NAME, FileRecord, Manifest, Variant
from gcompile.runtime.weights import WeightsWriter, map_weights


@dataclass
class ArtifactJoin:
    """An artefact that grows by one entry point at a time.

    Attributes:
        folder: The folder to fill, which exists.
    """

    folder: Path
    entries: list[EntryPoint] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    files: dict[str, FileRecord] = field(default_factory=dict)
    last: Manifest | None = None

    def __post_init__(self) -> None:
        self.weights = WeightsWriter(self.folder / WEIGHTS_NAME)

    def add(self, name: str, part: Path) -> None:
        """Take an artefact of one entry point in, moving its files; they must have other names.

        Args:
            name: What the entry point is called here.
            part: The folder of the artefact.

        Raises:
            UsageError: It was compiled for another number of threads than those before.
        """
        manifest = Manifest.read(part)
        if self.last is not None and manifest.threads != self.last.threads:
            raise UsageError(
                f"Entry point {name!r} is compiled for {manifest.threads} threads and others for "
                f"{self.last.threads}. Compile all for the same number."
            )
        places = self.weights.add(map_weights(part / WEIGHTS_NAME, manifest.weights))
        moved = {
            file: self._place(part / file, record)
            for file, record in manifest.files.items()
            if file != WEIGHTS_NAME
        }
        self.entries.append(replace(manifest.entry_point(), name=name))
        self.variants += [
            replace(
                variant,
                entry=name,
                library=moved[variant.library],
                weights=tuple(places[index] for index in variant.weights),
            )
            for variant in manifest.variants
        ]
        self.last = manifest

    def finish(self, status: str, ladder: Ladder | None = None) -> Manifest:
        """Write the manifest.

        Args:
            status: How the build ended.
            ladder: Says that the entry points are one model at several sizes.

        Raises:
            UsageError: No entry point was added.
        """
        if self.last is None:
            raise UsageError("An artefact needs an entry point, and none was given.")
        files = dict(self.files)
        if self.weights.specs:
            files[WEIGHTS_NAME] = FileRecord.of(self.folder / WEIGHTS_NAME)
        manifest = replace(
            self.last,
            status=status,
            entries=tuple(self.entries),
            variants=tuple(self.variants),
            files=files,
            weights=tuple(self.weights.specs),
            ladder=ladder,
        )
        manifest.write(self.folder)
        return manifest

    def _place(self, path: Path, record: FileRecord) -> str:
        """Move a file here, unless its bytes are here already; return what it is called.

        Files that others name keep their names.
        """
        same = next((name for name, known in self.files.items() if known == record), None)
        same = same if path.suffix == ".so" else None
        if same is not None:
            return same
        shutil.move(path, self.folder / path.name)
        self.files[path.name] = record
        return path.name
