"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from gcompile.cli.bench import bench
from gcompile.cli.build import build
from gcompile.cli.calibrate import calibrate
from gcompile.cli.compare import compare
from gcompile.cli.doctor import doctor
from gcompile.cli.estimate import estimate
from gcompile.cli.passes import passes
from gcompile.cli.run import run
from gcompile.cli.sensitivity import sensitivity
from gcompile.cli.sweep import sweep
from gcompile.cli.targets import app as targets

COMMANDS = (
    "build",
    "estimate",
    "sweep",
    "sensitivity",
    "run",
    "bench",
    "compare",
    "passes",
    "targets",
    "calibrate",
    "doctor",
)

app = typer.Typer(
    help="Compile a model under an energy budget.\n\n"
    "`gcompile model.onnx --target cpu --budget 50mJ` is short for `gcompile build ...`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(build)
app.command()(estimate)
app.command()(sweep)
app.command()(sensitivity)
app.command()(run)
app.command()(bench)
app.command()(compare)
app.command()(passes)
app.add_typer(targets, name="targets")
app.command()(calibrate)
app.command()(doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        from gcompile import __version__

        typer.echo(f"gcompile {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an unexpected error came from.")
    ] = False,
) -> None:
    """Options of every command; `main` has taken --debug out before it gets here."""
