"""Services that know the carbon intensity of a grid now. None is asked unless the user says so."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from gcompile.energy.carbon.fetch import TIMEOUT_S, fetch_json, unexpected
from gcompile.energy.carbon.intensity import Intensity
from gcompile.errors import ProviderError, UnknownNameError, UsageError

PROVIDERS = ("uk", "electricity-maps", "watttime")
"""What `--carbon-provider` takes."""

_LB_PER_MWH_IN_G_PER_KWH = 0.45359237


class Provider(Protocol):
    """A service that is asked once, before any work starts."""

    @property
    def name(self) -> str:
        """What `--carbon-provider` calls it."""

    def intensity(self, zone: str) -> Intensity:
        """Ask for the intensity of a zone now.

        Raises:
            ProviderError: The service does not give it; the message says why and what to do.
        """


@dataclass(frozen=True)
class UkCarbonIntensity:
    """The National Energy System Operator's service for Great Britain; it needs no key.

    `GB` asks for the whole grid, `RG10` for the region of a postcode, a number for a region.
    Documentation: https://carbon-intensity.github.io/api-definitions/ (data: CC BY 4.0).
    """

    base_url: str = "https://api.carbonintensity.org.uk"
    timeout_s: float = TIMEOUT_S
    name: str = "uk"

    def intensity(self, zone: str) -> Intensity:
        """Ask for the current half hour; what was metered goes before what was forecast."""
        service = "The UK Carbon Intensity API"
        answer = fetch_json(service, f"{self.base_url}/{self._path(zone)}", None, self.timeout_s)
        try:
            period = answer["data"][0] if isinstance(answer["data"], list) else answer["data"]
            period = period["data"][0] if "data" in period else period
            values = period["intensity"]
            actual = values.get("actual")
            grams = _number(values["forecast"] if actual is None else actual)
            at = str(period["from"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise unexpected(service) from error
        source = "Carbon Intensity API of NESO, CC BY 4.0"
        return Intensity(grams, source, zone.strip().upper(), at)

    def _path(self, zone: str) -> str:
        wanted = zone.strip().upper()
        if wanted in ("GB", "UK", "GBR"):
            return "intensity"
        if wanted.isdecimal():
            return f"regional/regionid/{wanted}"
        if not re.fullmatch(r"[A-Z]{1,2}\d[A-Z\d]?", wanted):
            raise UsageError(
                f"Zone {zone!r:.40} is not in Great Britain; give GB, the first part of a "
                "postcode such as RG10, or the number of a region."
            )
        return f"regional/postcode/{quote(wanted, safe='')}"


@dataclass(frozen=True)
class ElectricityMaps:
    """Electricity Maps: life-cycle intensity of a zone's consumption, by hour; it needs a key.

    Documentation: https://portal.electricitymaps.com/docs/api, `carbon-intensity/latest`.
    """

    key: str = field(repr=False)
    base_url: str = "https://api.electricitymaps.com"
    timeout_s: float = TIMEOUT_S
    name: str = "electricity-maps"

    def intensity(self, zone: str) -> Intensity:
        """Ask for the last hour that is known."""
        service = "Electricity Maps"
        query = urlencode({"zone": zone.strip()})
        url = f"{self.base_url}/v3/carbon-intensity/latest?{query}"
        answer = fetch_json(service, url, {"auth-token": self.key}, self.timeout_s)
        try:
            grams, at, answered = (
                _number(answer["carbonIntensity"]),
                str(answer["datetime"]),
                str(answer["zone"]),
            )
            estimated = ", estimated by it" if answer.get("isEstimated") else ""
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise unexpected(service) from error
        # A zone it does not know is answered with the zone of the caller's address.
        if answered.casefold() != zone.strip().casefold():
            raise ProviderError(
                f"{service} answered for {answered!r:.20} instead of {zone!r:.20}; choose one of "
                "its zones with --carbon-zone."
            )
        return Intensity(grams, f"Electricity Maps, life cycle{estimated}", answered, at)


@dataclass(frozen=True)
class WattTime:
    """WattTime: marginal emissions of a grid region, every five minutes; it needs an account.

    The key is `USER:PASSWORD`; a login turns it into a token for half an hour.
    Documentation: https://docs.watttime.org, `/login` and `/v3/forecast`, signal `co2_moer`,
    in pounds per megawatt-hour.
    """

    key: str = field(repr=False)
    base_url: str = "https://api.watttime.org"
    timeout_s: float = TIMEOUT_S
    name: str = "watttime"

    def intensity(self, zone: str) -> Intensity:
        """Log in and ask for the first point of the forecast, which is now."""
        service = "WattTime"
        basic = b64encode(self.key.encode()).decode()
        login = fetch_json(
            service, f"{self.base_url}/login", {"Authorization": f"Basic {basic}"}, self.timeout_s
        )
        query = urlencode({"region": zone.strip(), "signal_type": "co2_moer", "horizon_hours": 0})
        try:
            headers = {"Authorization": f"Bearer {login['token']}"}
        except (KeyError, TypeError) as error:
            raise unexpected(service) from error
        url = f"{self.base_url}/v3/forecast?{query}"
        answer = fetch_json(service, url, headers, self.timeout_s)
        try:
            pounds, at = _number(answer["data"][0]["value"]), str(answer["data"][0]["point_time"])
            region, units = str(answer["meta"]["region"]), answer["meta"]["units"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise unexpected(service) from error
        if units != "lbs_co2_per_mwh":
            raise unexpected(service)
        grams = pounds * _LB_PER_MWH_IN_G_PER_KWH
        return Intensity(grams, "WattTime, marginal operating emissions", region, at, "marginal")


def find_provider(name: str, key: str | None = None) -> Provider:
    """Return the provider of that name.

    Raises:
        UsageError: There is none, or it needs a key and has none.
    """
    if name == "uk":
        return UkCarbonIntensity()
    if name not in PROVIDERS:
        raise UnknownNameError("carbon provider", name, PROVIDERS)
    if not key:
        form = "USER:PASSWORD of your account" if name == "watttime" else "your API key"
        raise UsageError(
            f"The provider {name} needs {form}; set GCOMPILE_CARBON_KEY or give --carbon-key."
        )
    if any(not char.isprintable() for char in key):
        raise UsageError("The carbon key holds a line break or control character; copy it again.")
    return ElectricityMaps(key) if name == "electricity-maps" else WattTime(key)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(value)
    return float(value)
