"""The configuration of a build, as a TOML file that runs again as it is."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from gcompile.errors import UsageError
from gcompile.ir import is_module_spec
from gcompile.report.variants import target_names

_HEADER = """\
# Run again with: gcompile build --config {name}
# Relative paths count from the folder of this file.
"""
_PATHS = ("model", "calib", "eval", "output")


class BuildConfig(BaseModel):
    """Every option of `gcompile build` that decides what comes out.

    In a file, relative paths count from the folder of the file, so that it runs from anywhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    entries: dict[str, str] = {}
    target: str = "cpu"
    budget: str | None = None
    max_drop: str = "1%"
    metric: str = "top1"
    calib: str | None = None
    eval: str | None = None
    precision: str | None = None
    quantization: str = "balanced"
    shapes: dict[str, list[int]] = {}
    freeze: dict[str, str] = {}
    input_shapes: list[str] = []
    dynamic: dict[str, str] = {}
    threads: int = 1
    seed: int = 0
    passes: str | None = None
    plugins: list[str] = []
    output: str | None = None
    strict: bool = False
    emulator: str | None = None
    require_verified: bool = False
    max_evals: int = 8
    search_time: str | None = None
    prune: bool = False
    workers: str | None = None
    carbon_zone: str | None = None
    carbon_intensity: float | None = None
    carbon_provider: str | None = None
    carbon_inferences: int | None = None
    carbon_embodied: str | None = None

    @classmethod
    def read(cls, path: Path) -> dict[str, object]:
        """Read the options a TOML file sets, checked; those it leaves out are not in the result.

        Raises:
            UsageError: The file is missing, is no TOML, or sets an option that does not exist.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"Configuration {str(path)!r} cannot be read: {error.strerror}."
            ) from error
        except ValueError as error:
            raise UsageError(f"Configuration {str(path)!r} is not valid TOML: {error}.") from error
        checked = cls.checked(values, f"configuration {str(path)!r}")
        paths = checked._map_paths(lambda value: str(path.parent / value))
        return checked.model_copy(update=paths).model_dump(include=set(values))

    @classmethod
    def checked(cls, values: Mapping[str, object], where: str) -> BuildConfig:
        """Validate option values.

        Raises:
            UsageError: A key is unknown or a value has the wrong type; `where` names the source.
        """
        try:
            return cls.model_validate(values, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields)
                raise UsageError(
                    f"Unknown key {key!r} in {where}. Known keys: {known}."
                ) from error
            raise UsageError(f"{key!r} in {where}: {first['msg']}.") from error

    def relative_to(self, folder: Path) -> BuildConfig:
        """The same configuration with its paths counted from a folder."""
        base = folder.resolve()
        paths = self._map_paths(lambda value: os.path.relpath(Path(value).resolve(), base))
        return self.model_copy(update=paths)

    def _map_paths(self, change: Callable[[str], str]) -> dict[str, object]:
        """The options that are paths, changed; a target is one where it names a file."""
        values = {name: getattr(self, name) for name in _PATHS}
        if is_module_spec(self.model):
            del values["model"]
        targets = [
            change(name) if name.endswith(".toml") else name for name in target_names(self.target)
        ]
        paths = {name: change(value) for name, value in values.items() if value}
        entries = {
            name: model if is_module_spec(model) else change(model)
            for name, model in self.entries.items()
        }
        return paths | {"target": ",".join(targets), "entries": entries}

    def to_toml(self, name: str = "config.resolved.toml") -> str:
        """The configuration as TOML; options that are not set are left out."""
        values = self.model_dump(exclude_none=True)
        tables = {key: values.pop(key) for key in ("entries", "shapes", "dynamic")}
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        for key, table in tables.items():
            if table:
                lines += ["", f"[{key}]", *(f"{_toml(k)} = {_toml(v)}" for k, v in table.items())]
        return _HEADER.format(name=name) + "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A TOML value. JSON's strings, numbers, truth values and lists are TOML's too."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
