"""Passes by name, pipelines as text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest

from gcompile import ir, testing
from gcompile.errors import UnknownNameError, UsageError
from gcompile.passes import (
    Numerics,
    Pass,
    PassContext,
    Pipeline,
    describe_passes,
    discovery,
    exact_pipeline,
    format_pipeline,
    known_passes,
    load_plugin,
    parse_pipeline,
)
from gcompile.passes.canonicalize.fold_batch_norm import FoldBatchNorm
from gcompile.passes.canonicalize.fold_constants import FoldConstants
from gcompile.passes.fuse.fuse_regions import FuseRegions
from gcompile.passes.option_text import make_pass, options_of

PLUGIN = '''
from dataclasses import dataclass
from gcompile.passes import Numerics, Pass

@dataclass(frozen=True)
class NegateEverything(Pass):
    """Negate everything."""

    name = "negate-everything"
    numerics = Numerics.LOSSY
    strength: float = 1.5

    def run(self, model, ctx):
        return 0
'''


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Paint(Pass):
    name = "paint"
    numerics = Numerics.EXACT
    colour: Colour = Colour.RED
    coats: int = 1
    thick: float = 0.5
    dry: bool = True
    finish: Literal["matt", "gloss"] = "matt"
    rooms: tuple[str, ...] = ()
    size: tuple[int, float] = (1, 2.0)
    limit: int | None = None

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        return 0


def test_passes_are_found_without_a_list() -> None:
    known = known_passes()
    assert known["fold-batch-norm"] is FoldBatchNorm
    assert list(known) == sorted(known)


def test_descriptions_show_numerics_and_defaults() -> None:
    found = {entry.name: entry for entry in describe_passes()}["fold-constants"]
    assert found.numerics is Numerics.ROUNDING
    assert found.summary == "Fold nodes whose inputs are all known into constants."
    assert found.options == {"size_limit_bytes": "65536"}


@pytest.mark.parametrize(
    "text",
    [
        "fold-batch-norm",
        "fold-batch-norm,fuse-regions",
        "fold-constants{size_limit_bytes=10},[fold-pad,fold-scale]*4",
        "tidy:[fold-pad,[fold-scale,fold-pad]*2]*3,fuse-regions",
        "canonicalize,fuse-regions",
        "exact",
    ],
)
def test_text_reads_back_as_itself(text: str) -> None:
    pipeline = parse_pipeline(text)
    assert format_pipeline(pipeline) == text
    assert parse_pipeline(format_pipeline(pipeline)) == pipeline


def test_a_pipeline_is_its_passes() -> None:
    pipeline = parse_pipeline("fold-constants{size_limit_bytes=10}, [fold-batch-norm]*2", "mine")
    group = Pipeline("[fold-batch-norm]*2", (FoldBatchNorm(),), 2)
    assert pipeline == Pipeline("mine", (FoldConstants(size_limit_bytes=10), group))


def test_the_exact_pipeline_ends_with_regions_and_loses_nothing() -> None:
    canonicalize, fuse = exact_pipeline().passes
    assert isinstance(canonicalize, Pipeline)
    assert isinstance(fuse, Pipeline)
    assert fuse.passes[-1] == FuseRegions()
    leaves = [*canonicalize.passes, *fuse.passes]
    assert all(p.numerics is not Numerics.LOSSY for p in leaves if isinstance(p, Pass))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold-batchnorm", "Did you mean 'fold-batch-norm'"),
        ("fold-constants{size=1}", "has no option 'size'. Its options are: size_limit_bytes"),
        ("fold-pad{size=1}", "It has no options"),
        ("fold-constants{size_limit_bytes=big}", "size_limit_bytes=big is not a whole number"),
        ("fold-constants{size_limit_bytes}", "has no value: write size_limit_bytes=value"),
        ("fold-pad,,fold-scale", "not a pipeline"),
        ("", "not a pipeline"),
        ("[fold-pad", "neither a pass"),
        ("[fold-pad]*0", "once is the least"),
    ],
)
def test_errors_name_the_pass_the_option_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        parse_pipeline(text)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Known pass names: .*fuse-regions"):
        parse_pipeline("nonsense")


def test_options_of_every_type_read_back() -> None:
    paint = Paint(
        Colour.BLUE, 3, 1e-9, False, "gloss", ("a b", "c,d", "conv/1"), (4, 0.25), limit=7
    )
    texts = options_of(paint, with_defaults=False)
    assert texts == {
        "colour": "blue",
        "coats": "3",
        "thick": "1e-09",
        "dry": "false",
        "finish": "gloss",
        "rooms": '("a b","c,d",conv/1)',
        "size": "(4,0.25)",
        "limit": "7",
    }
    assert make_pass(Paint, texts) == paint
    assert make_pass(Paint, {"limit": "none"}) == Paint()


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("colour", "green", "one of: red, blue"),
        ("finish", "silk", "one of: matt, gloss"),
        ("dry", "yes", "one of: true, false"),
        ("thick", "much", "a number"),
        ("size", "(1,2,3)", "a list of 2 values in parentheses"),
        ("limit", "some", "a whole number or none"),
    ],
)
def test_values_that_do_not_fit_say_what_would(option: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"Pass 'paint': {option}=.* is not {message}"):
        make_pass(Paint, {option: text})


def test_a_plug_in_adds_its_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "negating_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(discovery, "_plugins", {})
    assert list(load_plugin("negating_plugin")) == ["negate-everything"]
    assert "negate-everything" in known_passes()
    text = "negate-everything{strength=2.5}"
    assert format_pipeline(parse_pipeline(text)) == text
    sys.modules.pop("negating_plugin")


def test_a_plug_in_that_is_missing_or_empty_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot be imported"):
        load_plugin("no_such_module_anywhere")
    with pytest.raises(UsageError, match="holds no pass"):
        load_plugin("json")


def test_a_pipeline_keeps_a_record_per_pass() -> None:
    model = ir.parse(
        '<ir_version: 10, opset_import: ["" : 21]> '
        "g (float[3] x) => (float[3] y) { a = Identity(x) b = Neg(a) y = Relu(b) }"
    )
    record = exact_pipeline().apply(model, testing.example_context())
    changed = {leaf.name: leaf.changed for leaf in record.leaves if leaf.changed}
    assert changed == {"eliminate-identity": 1, "fuse-regions": 1}
    assert record.after.total.energy_j < record.before.total.energy_j
