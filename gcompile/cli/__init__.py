"""The command line: one file per sub-command, each a thin layer over the Python interface."""

from gcompile.cli.main import main

__all__ = ["main"]
