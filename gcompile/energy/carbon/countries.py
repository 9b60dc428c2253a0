"""The shipped table: yearly averages of 213 countries, from Our World in Data and Ember."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from gcompile.energy.carbon.intensity import Intensity
from gcompile.errors import UsageError

WORLD = "world"


def zone_intensity(zone: str) -> Intensity:
    """Return the yearly average of a country: `DE`, `DEU`, `Germany`, or `world`.

    Raises:
        UsageError: The table has no such country.
    """
    wanted = zone.strip().casefold()
    table = _table()
    if wanted == WORLD:
        world = table["world"]
        return Intensity(world["g_per_kwh"], world["source"], WORLD, str(world["year"]))
    codes = _codes()
    if wanted not in codes:
        near = difflib.get_close_matches(wanted, codes, n=1)
        hint = f" Did you mean {table['countries'][codes[near[0]]]['code']}?" if near else ""
        raise UsageError(
            f"Unknown carbon zone {zone!r:.40}.{hint} Give a country as DE, DEU or Germany, or "
            "'world'; regions of a grid need --carbon-provider."
        )
    country = table["countries"][codes[wanted]]
    source = f"{country['name']}, {table['attribution']}"
    return Intensity(country["g_per_kwh"], source, country["code"], str(country["year"]))


@cache
def _table() -> dict[str, Any]:
    path = files("gcompile.energy.carbon") / "data" / "countries.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


@cache
def _codes() -> dict[str, str]:
    """Every spelling of a country, in lower case, and its three-letter code."""
    codes: dict[str, str] = {}
    for code3, country in _table()["countries"].items():
        for spelling in (code3, country["code"], country["name"]):
            codes[spelling.casefold()] = code3
    return codes
