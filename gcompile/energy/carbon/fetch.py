"""Ask a web service for JSON: one request, a timeout, and one sentence when it goes wrong."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from gcompile.errors import ProviderError

TIMEOUT_S = 10.0

_MOST_BYTES = 1 << 20
_INSTEAD = "or use the shipped table with --carbon-zone alone"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key must not follow to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


def fetch_json(
    service: str, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> Any:
    """Return the JSON that a service answers.

    Raises:
        ProviderError: It is down, refuses the key, limits the rate, or answers no JSON.
    """
    request = urllib.request.Request(
        url, headers={"Accept": "application/json", **(headers or {})}
    )
    try:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=timeout_s) as answer:
            body = answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            raise ProviderError(_refusal(service, error)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ProviderError(
            f"{service} cannot be reached ({reason}); check the connection, {_INSTEAD}."
        ) from error
    try:
        return json.loads(body)
    except ValueError as error:
        raise unexpected(service) from error


def unexpected(service: str) -> ProviderError:
    """Return the error for an answer that is not what the service documents."""
    return ProviderError(
        f"{service} answered something else than its documentation says; try again later, "
        f"{_INSTEAD}."
    )


def _refusal(service: str, error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return (
            f"{service} refuses the key (HTTP {error.code}): it is wrong, expired, or not allowed "
            "to read this zone; renew it and set GCOMPILE_CARBON_KEY."
        )
    if error.code == 429:
        after = error.headers.get("Retry-After", "")
        wait = f"{after} s" if after.isdecimal() else "a few minutes"
        return f"{service} limits the rate of requests (HTTP 429); wait {wait}, {_INSTEAD}."
    if error.code in (400, 404):
        return (
            f"{service} does not know this zone (HTTP {error.code}); its documentation lists the "
            "zones, choose one with --carbon-zone."
        )
    return f"{service} failed (HTTP {error.code}); try again later, {_INSTEAD}."
