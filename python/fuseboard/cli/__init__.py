"""The command line, `fuseboard`: make and build plugins, look at them and at what is kept of them, run one by hand."""

from __future__ import annotations

import io
import sys

import click

from fuseboard.cli._build import build_plugin
from fuseboard.cli._cache import cache
from fuseboard.cli._check import check
from fuseboard.cli._db import db
from fuseboard.cli._functions import functions
from fuseboard.cli._inspect import inspect
from fuseboard.cli._new import new
from fuseboard.cli._run import run

__all__ = ["main"]


@click.group("fuseboard", context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Make plugins, look at them, and run them by hand, each invocation behind a fuse for each resource."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


main.add_command(build_plugin)
main.add_command(cache)
main.add_command(check)
main.add_command(db)
main.add_command(functions)
main.add_command(inspect)
main.add_command(new)
main.add_command(run)
