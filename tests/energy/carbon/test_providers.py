"""The answers are those that the services document; see each provider for the page."""

from __future__ import annotations

import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator

import pytest

from gcompile.energy.carbon import (
    ElectricityMaps,
    Provider,
    UkCarbonIntensity,
    WattTime,
    find_provider,
)
from gcompile.errors import ProviderError, UsageError
from tests.energy.carbon.service import Service, serve

UK_NATIONAL = {
    "data": [
        {
            "from": "2018-01-20T12:00Z",
            "to": "2018-01-20T12:30Z",
            "intensity": {"forecast": 266, "actual": 263, "index": "moderate"},
        }
    ]
}
UK_REGIONAL = {
    "data": [
        {
            "regionid": 12,
            "dnoregion": "SSE South",
            "shortname": "South England",
            "postcode": "RG10",
            "data": [
                {
                    "from": "2018-01-20T12:00Z",
                    "to": "2018-01-20T12:30Z",
                    "intensity": {"forecast": 241, "index": "moderate"},
                    "generationmix": [{"fuel": "gas", "perc": 43.6}],
                }
            ],
        }
    ]
}
ELECTRICITY_MAPS = {
    "zone": "DE",
    "carbonIntensity": 302,
    "datetime": "2018-04-25T18:00:00.000Z",
    "updatedAt": "2018-04-25T18:07:01.000Z",
    "emissionFactorType": "lifecycle",
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}
WATTTIME = {
    "data": [
        {"point_time": "2022-07-15T00:00:00+00:00", "value": 870.0},
        {"point_time": "2022-07-15T00:05:00+00:00", "value": 860.0},
    ],
    "meta": {
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "units": "lbs_co2_per_mwh",
        "data_point_period_seconds": 300,
        "warnings": [],
        "model": {"date": "2023-03-01"},
        "generated_at": "2022-07-15T00:00:00+00:00",
    },
}
PATHS = {
    "uk": ("/intensity",),
    "electricity-maps": ("/v3/carbon-intensity/latest",),
    "watttime": ("/login", "/v3/forecast"),
}
ZONES = {"uk": "GB", "electricity-maps": "DE", "watttime": "CAISO_NORTH"}

Make = Callable[[Service, str], Provider]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service on this machine, which no proxy stands before."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        yield running


@pytest.fixture(params=list(PATHS))
def provider(request: pytest.FixtureRequest, service: Service) -> Provider:
    """Each provider, asking the service of this machine, which answers as documented."""
    name = str(request.param)
    service.answers = {
        "/intensity": (200, UK_NATIONAL),
        "/v3/carbon-intensity/latest": (200, ELECTRICITY_MAPS),
        "/login": (200, {"token": "abcd"}),
        "/v3/forecast": (200, WATTTIME),
    }
    if name == "uk":
        return UkCarbonIntensity(service.url, timeout_s=2.0)
    if name == "electricity-maps":
        return ElectricityMaps("key", service.url, timeout_s=2.0)
    return WattTime("user:pass:word", service.url, timeout_s=2.0)


def _answer(service: Service, provider: Provider, status: int, body: object) -> None:
    """Let the last request of the provider be answered otherwise."""
    service.answers[PATHS[provider.name][-1]] = (status, body)


def _refusal(provider: Provider) -> str:
    with pytest.raises(ProviderError) as caught:
        provider.intensity(ZONES[provider.name])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_great_britain_is_what_was_metered(service: Service) -> None:
    service.answers["/intensity"] = (200, UK_NATIONAL)
    found = UkCarbonIntensity(service.url).intensity("gb")
    assert (found.g_per_kwh, found.zone, found.at) == (263.0, "GB", "2018-01-20T12:00Z")
    assert found.signal == "average"


def test_a_half_hour_that_is_not_metered_yet_is_what_was_forecast(service: Service) -> None:
    values = {"forecast": 266, "actual": None, "index": "moderate"}
    period = {**UK_NATIONAL["data"][0], "intensity": values}
    service.answers["/intensity"] = (200, {"data": [period]})
    assert UkCarbonIntensity(service.url).intensity("GB").g_per_kwh == 266.0


@pytest.mark.parametrize(
    ("zone", "path"), [("rg10", "/regional/postcode/RG10"), ("13", "/regional/regionid/13")]
)
def test_a_region_of_britain_is_asked_by_postcode_or_number(
    service: Service, zone: str, path: str
) -> None:
    service.answers[path] = (200, UK_REGIONAL)
    assert UkCarbonIntensity(service.url).intensity(zone).g_per_kwh == 241.0


def test_a_zone_that_is_not_british_is_refused_without_asking(service: Service) -> None:
    with pytest.raises(UsageError, match="RG10"):
        UkCarbonIntensity(service.url).intensity("../DE")
    assert service.asked == []


def test_electricity_maps_gets_the_key_as_a_header(service: Service) -> None:
    service.answers["/v3/carbon-intensity/latest"] = (200, ELECTRICITY_MAPS)
    found = ElectricityMaps("secret", service.url).intensity("DE")
    assert (found.g_per_kwh, found.zone, found.at) == (302.0, "DE", "2018-04-25T18:00:00.000Z")
    assert "estimated by it" in found.source
    path, headers = service.asked[0]
    assert path == "/v3/carbon-intensity/latest?zone=DE"
    assert headers["auth-token"] == "secret"


def test_an_answer_for_another_zone_is_refused(service: Service) -> None:
    service.answers["/v3/carbon-intensity/latest"] = (200, ELECTRICITY_MAPS)
    with pytest.raises(ProviderError, match="'DE' instead of 'FR'"):
        ElectricityMaps("key", service.url).intensity("FR")


def test_watttime_logs_in_and_converts_pounds_per_megawatt_hour(service: Service) -> None:
    service.answers = {"/login": (200, {"token": "abcd"}), "/v3/forecast": (200, WATTTIME)}
    found = WattTime("user:pass:word", service.url).intensity("CAISO_NORTH")
    assert found.g_per_kwh == pytest.approx(394.6, abs=0.1)
    assert (found.signal, found.zone) == ("marginal", "CAISO_NORTH")
    login, forecast = service.asked
    assert b64decode(login[1]["authorization"].removeprefix("Basic ")) == b"user:pass:word"
    assert forecast[1]["authorization"] == "Bearer abcd"
    assert "signal_type=co2_moer" in forecast[0]


def test_other_units_of_watttime_are_refused(service: Service) -> None:
    answer = {**WATTTIME, "meta": {**WATTTIME["meta"], "units": "lbs_health"}}  # type: ignore[dict-item]
    service.answers = {"/login": (200, {"token": "abcd"}), "/v3/forecast": (200, answer)}
    with pytest.raises(ProviderError, match="documentation"):
        WattTime("user:word", service.url).intensity("CAISO_NORTH")


@pytest.mark.parametrize("status", [401, 403])
def test_an_expired_key_says_how_to_renew_it(
    service: Service, provider: Provider, status: int
) -> None:
    _answer(service, provider, status, {"error": "Invalid auth-token"})
    message = _refusal(provider)
    assert f"HTTP {status}" in message
    assert "expired" in message
    assert "GCOMPILE_CARBON_KEY" in message


def test_a_wrong_password_is_seen_at_the_login(service: Service) -> None:
    service.answers["/login"] = (403, {"error": "invalid"})
    with pytest.raises(ProviderError, match="refuses the key"):
        WattTime("user:wrong", service.url).intensity("CAISO_NORTH")
    assert len(service.asked) == 1


def test_too_many_requests_say_how_long_to_wait(service: Service, provider: Provider) -> None:
    _answer(service, provider, 429, {"error": "rate limit"})
    assert "a few minutes" in _refusal(provider)
    service.headers["Retry-After"] = "90"
    assert "wait 90 s" in _refusal(provider)


@pytest.mark.parametrize("status", [400, 404])
def test_a_zone_the_service_does_not_know_is_said(
    service: Service, provider: Provider, status: int
) -> None:
    _answer(service, provider, status, {"error": {"code": "400 Bad Request"}})
    assert "--carbon-zone" in _refusal(provider)


def test_a_service_that_fails_points_to_the_table(service: Service, provider: Provider) -> None:
    _answer(service, provider, 500, "oops")
    message = _refusal(provider)
    assert "HTTP 500" in message
    assert "shipped table" in message


def test_a_redirect_is_not_followed_with_the_key(service: Service, provider: Provider) -> None:
    service.headers["Location"] = f"{service.url}/elsewhere"
    _answer(service, provider, 302, "")
    assert "HTTP 302" in _refusal(provider)
    assert all(path != "/elsewhere" for path, _ in service.asked)


@pytest.mark.parametrize(
    "body",
    [
        "<html>maintenance</html>",
        "",
        "[]",
        "null",
        "{}",
        '{"data": []}',
        '{"data": 5}',
        '{"data": [{"from": "now", "intensity": {"forecast": "many"}}]}',
        '{"data": [{"from": "now", "intensity": {"forecast": -5}}]}',
        '{"zone": "DE", "carbonIntensity": null, "datetime": "now"}',
        '{"zone": "DE", "carbonIntensity": true, "datetime": "now"}',
        '{"zone": "DE", "carbonIntensity": NaN, "datetime": "now"}',
        '{"data": [{"value": "many", "point_time": "now"}], "meta": {}}',
        "\ud83c\udf31".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_refused(
    service: Service, provider: Provider, body: str
) -> None:
    _answer(service, provider, 200, body)
    assert "documentation" in _refusal(provider)


def test_a_login_without_a_token_is_refused(service: Service) -> None:
    service.answers["/login"] = (200, ["token"])
    with pytest.raises(ProviderError, match="documentation"):
        WattTime("user:word", service.url).intensity("CAISO_NORTH")


def _unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_service_that_is_down_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = f"http://127.0.0.1:{_unused_port()}"
    for provider in (UkCarbonIntensity(url), ElectricityMaps("k", url), WattTime("u:p", url)):
        message = _refusal(provider)
        assert "cannot be reached" in message
        assert "shipped table" in message


def test_a_service_that_does_not_answer_is_left_after_a_while(service: Service) -> None:
    service.delay = threading.Event()
    with pytest.raises(ProviderError, match="cannot be reached"):
        UkCarbonIntensity(service.url, timeout_s=0.1).intensity("GB")


def test_a_key_shows_in_no_repr() -> None:
    assert "secret" not in repr(ElectricityMaps("secret"))
    assert "secret" not in repr(WattTime("user:secret"))


def test_providers_have_names() -> None:
    assert isinstance(find_provider("uk"), UkCarbonIntensity)
    assert isinstance(find_provider("electricity-maps", "k"), ElectricityMaps)
    assert isinstance(find_provider("watttime", "u:p"), WattTime)


@pytest.mark.parametrize(
    ("name", "key", "part"),
    [
        ("entsoe", "k", "Known carbon providers: electricity-maps, uk, watttime"),
        ("electricity-maps", None, "needs your API key; set GCOMPILE_CARBON_KEY"),
        ("electricity-maps", "", "needs your API key"),
        ("watttime", None, "needs USER:PASSWORD"),
        ("electricity-maps", "a\nb", "copy it again"),
    ],
)
def test_a_provider_that_cannot_be_asked_is_refused(name: str, key: str | None, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_provider(name, key)
    assert part in str(caught.value)
