"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gcompile.errors import UsageError


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


class QuantizationName(StrEnum):
    """How much is tried to arrive at int8."""

    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"


class PricedPrecisionName(StrEnum):
    """Precisions that can be priced, wherever a target runs them."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"
    MXFP8 = "mxfp8"
    MXFP6 = "mxfp6"
    MXFP4 = "mxfp4"


FormatOption = Annotated[
    Format, typer.Option("--format", help="`json` prints only JSON on standard output.")
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=SIZES",
        help="Shape of an input, x=1,3,224,224, or size of a free dimension. Repeatable.",
    ),
]
FreezeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--freeze",
        metavar="NAME=VALUE",
        help="Make an input a constant: rate=16000. Repeatable.",
    ),
]
DynamicOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dynamic",
        metavar="NAME=SIZES",
        help="Keep a free dimension free: batch=1..64, or length=16,32. Repeatable.",
    ),
]
InputShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="SIZES[:TYPE]",
        help="Input of a PyTorch module: 1,3,224,224 or ids=1,128:int64. Repeatable.",
    ),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="Module that adds passes. Repeatable."),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="[fp32|fp16|bf16|int8]",
        help="Ask for one precision wherever it is possible.",
    ),
]
QuantizationOption = Annotated[
    QuantizationName | None,
    typer.Option("--quantization", help="How int8 is arrived at. [default: balanced]"),
]
PricedPrecisionOption = Annotated[
    PricedPrecisionName | None,
    typer.Option("--precision", help="Price every layer as if it ran in this precision."),
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant", metavar="NAME", help="Variant of the artefact. [default: the best that runs]"
    ),
]
CalibOption = Annotated[
    Path | None, typer.Option("--calib", help=".npz with rows for every model input.")
]
EvalOption = Annotated[
    Path | None, typer.Option("--eval", help=".npz with such rows and their `labels`.")
]
MetricOption = Annotated[
    str | None, typer.Option("--metric", help="top1, or MODULE:FUNCTION. [default: top1]")
]
SearchTimeOption = Annotated[
    str | None, typer.Option("--search-time", help="How long a search may measure: 90s, 10m, 2h.")
]
PruneOption = Annotated[
    bool,
    typer.Option("--prune", help="Let the search prune channels, kernels and blocks as well."),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|ray|ADDRESS",
        help="Measure sensitivities in N processes, or on a Ray cluster. [default: this one]",
    ),
]
NoCacheOption = Annotated[
    bool, typer.Option("--no-cache", help="Neither use nor keep kernels, searches and builds.")
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="Threads to run on.")]
DeviceOption = Annotated[
    int | None,
    typer.Option("--device", metavar="N", help="Which GPU runs code for GPUs. [default: 0]"),
]
FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The artefact that `gcompile build` wrote.")
]


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Read `name=1,3,224,224` for each input; the name may itself contain an equals sign.

    Raises:
        UsageError: A text is not of that form, or names an input twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, found, dims = text.rpartition("=")
        sizes = [size.strip() for size in dims.split(",")] if dims.strip() else []
        if not (found and name) or not all(size.isdecimal() and int(size) for size in sizes):
            raise UsageError(
                f"Shape {text!r:.80} is not NAME=SIZES with positive whole numbers. "
                "Write it as --shape input=1,3,224,224."
            )
        if name in shapes:
            raise UsageError(f"--shape gives the input {name!r} twice. Give it once.")
        shapes[name] = tuple(map(int, sizes))
    return shapes


def parse_values(texts: Iterable[str]) -> dict[str, str]:
    """Read `name=value` for each input that is frozen.

    Raises:
        UsageError: A text is not of that form, or names an input twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, found, value = text.rpartition("=")
        if not (found and name and value.strip()):
            raise UsageError(f"--freeze {text!r:.80} is not NAME=VALUE, such as rate=16000.")
        if name in values:
            raise UsageError(f"--freeze gives the input {name!r} twice. Give it once.")
        values[name] = value
    return values


def parse_dynamic(texts: Iterable[str]) -> dict[str, str]:
    """Read `NAME=SIZES` for each free dimension; the compiler reads the sizes.

    Raises:
        UsageError: A text is not of that form, or names a dimension twice.
    """
    dynamic: dict[str, str] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name or not sizes:
            raise UsageError(
                f"Dimension {text!r:.80} is not NAME=SIZES. Write it as --dynamic batch=1..64."
            )
        if name in dynamic:
            raise UsageError(f"--dynamic gives {name!r} twice. Give it once.")
        dynamic[name] = sizes
    return dynamic
