"""Options that say how emissions are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gcompile.energy.carbon import Accounting

CarbonZoneOption = Annotated[
    str | None,
    typer.Option("--carbon-zone", metavar="ZONE", help="Grid to count emissions on, such as DE."),
]
CarbonIntensityOption = Annotated[
    float | None,
    typer.Option("--carbon-intensity", metavar="G", help="The same as a number, in gCO2e/kWh."),
]
CarbonProviderOption = Annotated[
    str | None,
    typer.Option(
        "--carbon-provider",
        metavar="NAME",
        help="Ask a service for the zone now: uk, electricity-maps or watttime.",
    ),
]
CarbonKeyOption = Annotated[
    str | None,
    typer.Option(
        "--carbon-key",
        metavar="KEY",
        envvar="GCOMPILE_CARBON_KEY",
        show_envvar=True,
        help="Your key for that service.",
    ),
]
CarbonInferencesOption = Annotated[
    int | None,
    typer.Option("--carbon-inferences", metavar="N", help="Sum for N runs. [default: 1000000]"),
]
CarbonEmbodiedOption = Annotated[
    str | None,
    typer.Option(
        "--carbon-embodied",
        metavar="KG,YEARS[,SHARE]",
        help="What making the device emitted, for how many years of use.",
    ),
]


def read_accounting(
    zone: str | None,
    intensity: float | None,
    provider: str | None,
    key: str | None,
    inferences: int | None,
    embodied: str | None,
) -> Accounting | None:
    """Put the options together, asking the provider if one is named; None without a grid.

    Raises:
        UsageError: The options contradict each other or cannot be read.
        ProviderError: The provider does not answer.
    """
    if all(value is None for value in (zone, intensity, provider, inferences, embodied)):
        return None
    from gcompile.energy.carbon import accounting

    return accounting(
        zone=zone,
        g_per_kwh=intensity,
        provider=provider,
        key=key,
        inferences=inferences,
        embodied=embodied,
    )
