"""Finds the application's `Host` or `AsyncHost` by its place, `module:attr`.

Rules:
* The current directory is on Python's path, first.
* Whatever an application does wrong is one sentence with what to change, not a traceback of ours.
* What an application prints goes to standard error: standard output is the command's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from operator import attrgetter
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

import click

from fuseboard._base_host import BaseHost
from fuseboard._errors import near_miss
from fuseboard.cli._terminal import wrong_option


def host_at(place: str) -> BaseHost:
    """Return the host at `module:attr`, or what a callable there returns.

    Raises:
        click.BadParameter: there is none.
    """
    module, _, attribute = place.partition(":")
    if not module or not attribute:
        raise _wrong(f"{place!r} must be MODULE:ATTR, e.g. app:host for `host = Host(...)` in app.py")
    found = _attribute(_imported(module), attribute)
    host = _called(place, found) if callable(found) and not isinstance(found, BaseHost) else found
    if not isinstance(host, BaseHost):
        what = "is" if host is found else "returns something"
        problem = (
            f"{place} {what} of type {type(host).__name__}; it must be a fuseboard.Host or AsyncHost, "
            "or a callable returning one"
        )
        raise _wrong(problem)
    return host


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with _application_code(f"importing {name}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                raise _wrong(f"there is no module {error.name!r} in {here} or on Python's path") from None
            raise


def _attribute(module: ModuleType, path: str) -> object:
    with _application_code(f"{module.__name__}:{path}"):
        try:
            return attrgetter(path)(module)
        except AttributeError:
            raise _wrong(f"module {module.__name__!r} has no {path!r}{near_miss(path, vars(module))}") from None


def _called(place: str, make: Callable[..., object]) -> object:
    with _application_code(f"{place}()"):
        return make()


@contextmanager
def _application_code(what: str) -> Iterator[None]:
    try:
        with redirect_stdout(sys.stderr):
            yield
    except click.ClickException:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the application does
        raise _raised(what, error) from None


def _raised(what: str, error: BaseException) -> click.BadParameter:
    frames = extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return _wrong(f"{what} raised {type(error).__name__}: {error}{where}")


def _wrong(problem: str) -> click.BadParameter:
    return wrong_option("--host", problem)
