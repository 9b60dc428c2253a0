"""What a core of each microarchitecture does in a cycle and draws: the table and its look-up."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gcompile.targets.machine import Machine
from gcompile.targets.schema import Number
from gcompile.targets.target import Source

_TABLE = Path(__file__).parent / "microarchitectures.toml"


class Core(BaseModel):
    """One core of a microarchitecture.

    Attributes:
        models: Ranges of model or part numbers, both ends included; empty takes all.
        efficiency: The fraction of the peak that full register blocks reach.
        fma_bits: Register bits that multiply-add instructions work through per cycle.
        bf16_bits: The same of instructions that multiply pairs of bf16.
        load_bits: Bits loaded from the first-level cache per cycle.
        active_w: Power a busy core adds.
        idle_w: The core's share of the static power of its chip.
        dram_bytes_per_s: What one core draws from main memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    vendor: str
    families: tuple[int, ...]
    models: tuple[tuple[int, int], ...]
    is_server: bool
    efficiency: Number
    fma_bits: Number
    bf16_bits: Number
    load_bits: Number
    clock_hz: Number
    active_w: Number
    idle_w: Number
    l2_bytes_per_cycle: Number
    l3_bytes_per_cycle: Number
    dram_bytes_per_s: Number

    def fits(self, machine: Machine) -> bool:
        """Say whether the machine's processor has such cores."""
        return (
            machine.vendor == self.vendor
            and machine.family in self.families
            and (not self.models or any(a <= machine.model <= b for a, b in self.models))
        )


class Table(BaseModel):
    """The whole table: sources by short name, defaults of every processor, and the cores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: dict[str, str]
    defaults: dict[str, Number]
    cores: dict[str, Core]

    def default(self, key: str) -> float:
        """Return a default, in the unit its key ends with."""
        return self.defaults[key].value

    def source(self, number: Number) -> Source:
        """Return where a number of the table comes from, written out."""
        return Source(self.sources.get(number.source, number.source), number.status)


@cache
def microarchitectures() -> Table:
    """Return the table, read once."""
    return Table.model_validate(tomllib.loads(_TABLE.read_text(encoding="utf-8")))


def core_of(machine: Machine) -> Core:
    """Return the core of the machine, or the cautious stand-in of its architecture."""
    cores = microarchitectures().cores
    known = next((core for core in cores.values() if core.fits(machine)), None)
    return known or cores["unknown-arm" if "asimd" in machine.flags else "unknown-x86"]
