from __future__ import annotations

from html.parser import HTMLParser

import pytest

from gcompile.report import to_html, to_markdown, to_text
from gcompile.report.text import as_plain_text, render
from tests.report import examples

HOSTILE = (
    "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>|`*_[a](javascript:1)\x1b[31m\n&"
)


class _Page(HTMLParser):
    """Collects the tags and attributes that a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_fetches_nothing() -> None:
    page = _Page(to_html(examples.report()))
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed"}
    assert not page.attributes & {"src", "href", "onerror", "onclick"}
    text = to_html(examples.report())
    assert "http://" not in text
    assert "https://" not in text


def test_hostile_names_add_no_tag_to_the_page() -> None:
    usual = _Page(to_html(examples.report()))
    hostile = _Page(
        to_html(
            examples.report(
                model_name=HOSTILE, message=HOSTILE, notes=(HOSTILE,), module="<script>"
            )
        )
    )
    assert hostile.tags == usual.tags
    assert hostile.attributes == usual.attributes
    assert hostile.open == []


def test_hostile_names_stay_inside_their_cell_of_markdown() -> None:
    usual = to_markdown(examples.report(model_name="x", notes=("x",)))
    hostile = to_markdown(examples.report(model_name=HOSTILE, notes=(HOSTILE,)))
    assert len(hostile.splitlines()) == len(usual.splitlines())
    assert "<script" not in hostile.replace("\\<", "")
    assert "](javascript" not in hostile


def test_hostile_names_cannot_steer_a_terminal() -> None:
    text = to_text(examples.report(model_name=HOSTILE, notes=("[bold]not markup[/bold]",)))
    assert "\x1b" not in text
    assert "[bold]not markup[/bold]" in text


@pytest.mark.parametrize("render", [to_text, to_markdown, to_html])
def test_every_rendering_shows_what_the_reader_needs(render: object) -> None:
    assert callable(render)
    text = str(render(examples.report())).replace("\\", "")
    for part in (
        "The energy budget is met.",
        "10.0 uJ per inference (5.00 uJ to 20.0 uJ, board boundary)",
        "not a measurement",
        "static power charged for the whole time",
        "-50.0 % against the exact passes alone",
        "top1 0.9900 as given, 0.9850 compiled",
        "weight shared (2)",
        "reverted: it does not pay on this target",
        "80.0 %",
        "75.0 %",
        "Batch dimension N is bound to 1.",
        "generic code runs b",
    ):
        assert part in text


@pytest.mark.parametrize("render", [to_text, to_markdown, to_html])
def test_layers_of_a_pytorch_module_are_shown_with_their_place(render: object) -> None:
    assert callable(render)
    text = str(render(examples.report(module="block.conv"))).replace("\\", "")
    assert "block.conv" in text
    assert "net.py:7" in text
    assert "(outermost)" in str(render(examples.report(module=""))).replace("\\", "")
    assert "module" not in str(render(examples.report()))


@pytest.mark.parametrize("render", [to_text, to_markdown, to_html])
def test_emissions_are_shown_with_grid_terms_and_build(render: object) -> None:
    assert callable(render)
    text = " ".join(str(render(examples.report(carbon=True))).replace("\\", "").split())
    for part in (
        "1.06 ngCO2e per inference (0.529 ngCO2e to 2.12 ngCO2e, estimated, board boundary)",
        "1.06 ugCO2e per 1,000",
        "380.9 gCO2e/kWh, DE 2023, average: Germany, Our World in Data and Ember, CC BY 4.0",
        "((E 2.78e-12 kWh · I 380.9 gCO2e/kWh) + M 4.75 ngCO2e) per inference = 5.81 ngCO2e",
        "estimated: 12.0 CPU seconds at 4 W, 48.0 J (24.0 J to 96.0 J)",
    ):
        assert part in text


@pytest.mark.parametrize("render", [to_text, to_markdown, to_html])
def test_without_a_grid_no_emissions_are_shown(render: object) -> None:
    assert callable(render)
    assert "CO2" not in str(render(examples.report()))


def test_a_missing_evaluation_is_said_plainly() -> None:
    assert "not measured: no evaluation rows were given" in to_text(
        examples.report(accuracy=False)
    )


def test_passes_that_found_nothing_to_do_share_one_line() -> None:
    lines = to_text(examples.report()).splitlines()
    assert "  nothing to do for remove-dead-nodes" in lines


def test_layers_beyond_the_top_are_counted() -> None:
    text = to_text(examples.report(), top=1)
    assert "and 1 more" in text


def test_bars_can_be_left_out_where_there_is_no_room() -> None:
    assert "█" in as_plain_text(render(examples.report()))
    assert "█" not in as_plain_text(render(examples.report(), bars=False))
