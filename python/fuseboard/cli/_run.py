"""`fuseboard run`: one plugin, one hook, one value, in the application's own host.

Rules:
* What can be refused before the application is imported is refused then.
* The exit code says what became of the invocation; where there was none, it is 2.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypedDict, TypeVar, Unpack, cast

import click
import msgspec

from fuseboard._async_host import AsyncHost
from fuseboard._errors import LoadError, UnknownHook, UsageError
from fuseboard._grants import AS_REQUESTED
from fuseboard._hooks import Hook
from fuseboard._host import Host
from fuseboard._loading import GrantsOrWord, from_folder
from fuseboard._outcome import Completed, Outcome, Skipped, Trapped
from fuseboard._plugin import Plugin
from fuseboard._values import UNWRITABLE
from fuseboard.cli._application import host_at
from fuseboard.cli._log import LogLine, show_line, shown_loads, watched_log
from fuseboard.cli._report import Report
from fuseboard.cli._terminal import (
    INTERRUPTED,
    CannotRun,
    host_option,
    json_option,
    notices,
    output,
    plain,
    plugin_argument,
    print_json,
    say,
    wrong_option,
)

T = TypeVar("T")
AnyHost = Host | AsyncHost
Done = Callable[[Any], Any]

EXIT_CODES: Final[dict[type[Outcome], int]] = {Completed: 0, Trapped: 1, Skipped: 3}
_LONGEST_MS: Final = 86_400_000
_HOST_HELP: Final = "The application's Host or AsyncHost, or a callable that gives one. It is imported and really used."


class Options(TypedDict):
    """The options of `run`, as click hands them over."""

    host: str
    hook: str
    value: str | None
    value_file: BinaryIO | None
    context: str | None
    scope: str | None
    request_id: str | None
    timeout_ms: int | None
    setting: tuple[str, ...]
    grant: Literal["as-requested", "none"]
    as_json: bool


@click.command()
@plugin_argument
@host_option(_HOST_HELP, required=True)
@click.option("--hook", metavar="NAME", required=True, help="The hook to run the plugin on.")
@click.option(
    "--value", metavar="JSON", help="The hook's value; null by default. For a bytes hook: plain text, empty by default."
)
@click.option("--value-file", type=click.File("rb"), help="A file with the hook's value, or - for standard input.")
@click.option("--context", metavar="JSON", help="What the plugin may know beside the value: a JSON object.")
@click.option("--scope", help="Whose data the plugin works on, e.g. a tenant.")
@click.option("--request-id", metavar="ID", help="The request's id; random by default.")
@click.option(
    "--timeout-ms",
    metavar="N",
    type=click.IntRange(0, _LONGEST_MS),
    help="A deadline in milliseconds, beside the plugin's own limit.",
)
@click.option("--setting", metavar="KEY=JSON", multiple=True, help="A setting over the manifest's; may be repeated.")
@click.option(
    "--grant",
    type=click.Choice([AS_REQUESTED, "none"]),
    default=AS_REQUESTED,
    show_default=True,
    help="What the plugin may do.",
)
@json_option
@click.pass_context
def run(command: click.Context, /, folder: Path, **options: Unpack[Options]) -> None:
    """Run the plugin in DIR once, in the application's own host, and show what became of it.

    The application's backends and functions are really called, and writes are committed. Exits with 0 where the
    plugin completed, 1 where it trapped, 3 where it was skipped, 2 where it could not be run.
    """
    report = _run(folder, options)
    if options["as_json"]:
        print_json(report.data())
    else:
        report.show(output())
    command.exit(EXIT_CODES[type(report.outcome)])


def _run(folder: Path, options: Options) -> Report:
    written = _written(options)
    about = _json_object("--context", options["context"])
    settings = dict(_setting(each) for each in options["setting"])
    log: list[LogLine] = []
    watched = watched_log(log.append if options["as_json"] else show_line)
    with shown_loads():
        host = cast("AnyHost", host_at(options["host"]))
    with _refusals_told(), redirect_stdout(sys.stderr), watched, shown_loads():
        hook = _hook(host, options["hook"])
        value = _value(hook, written)
        grants: GrantsOrWord = AS_REQUESTED if options["grant"] == AS_REQUESTED else None
        with _awaiting() as done:
            replaced = _make_room(host, folder, done)
            plugin = done(host.load(folder, grants=grants, settings=settings))
            outcome = done(
                host.invoke(
                    plugin.slug,
                    hook,
                    value,
                    context=about,
                    scope=options["scope"],
                    request_id=options["request_id"],
                    timeout_ms=options["timeout_ms"],
                )
            )
    return Report(hook, value, outcome, replaced, log)


@contextmanager
def _awaiting() -> Iterator[Done]:
    """Give what turns a call of a host of either kind into its result."""
    with asyncio.Runner() as runner:
        yield lambda result: runner.run(result) if inspect.iscoroutine(result) else result


@contextmanager
def _refusals_told() -> Iterator[None]:
    try:
        yield
    except (LoadError, UsageError) as error:
        raise CannotRun(str(error), *getattr(error, "__notes__", ())) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None


# ── the host ─────────────────────────────────────────────────────────────────────────────────────


def _hook(host: AnyHost, name: str) -> Hook:
    declared = host._registry.policy().hooks or {}
    if name not in declared:
        raise UnknownHook(name, declared)
    return declared[name]


def _make_room(host: AnyHost, folder: Path, done: Done) -> Plugin | None:
    """Unload a plugin of the same slug and return it."""
    manifest = from_folder(folder, host._registry.policy().ceilings).manifest
    loaded = None if manifest is None else host.plugins.get(manifest.slug)
    if loaded is not None:
        done(host.unload(loaded.slug))
        notice = (
            f"unloaded the application's own {loaded.slug} {loaded.version} first, and its grants, limits, settings"
        )
        say(notices(), plain(notice, "dim"))
    return loaded


# ── what the options say ─────────────────────────────────────────────────────────────────────────


def _written(options: Options) -> bytes | None:
    value, file = options["value"], options["value_file"]
    if value is not None and file is not None:
        raise click.UsageError("--value and --value-file exclude each other.")
    if file is not None:
        return file.read()
    return None if value is None else value.encode(errors="surrogateescape")


def _value(hook: Hook, written: bytes | None) -> Any:
    is_raw = hook.value_type is bytes
    if written is None:
        written = b"" if is_raw else b"null"
    try:
        return hook.codec.decode(written)
    except UNWRITABLE as error:
        advice = "" if is_raw else "; values are JSON, so text is written with its quotes"
        raise CannotRun(f"the value doesn't fit hook {hook.name!r}: {error}{advice}") from None


def _json_object(option: str, text: str | None) -> dict[str, Any] | None:
    return None if text is None else _json(option, text, dict[str, Any])


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise wrong_option("--setting", f"{text!r} must be KEY=JSON, e.g. --setting 'style=\"ap\"'")
    return key, _json("--setting", value, object)


def _json(option: str, text: str, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(text.encode(), type=shape)
    except UNWRITABLE as error:
        raise wrong_option(option, f"{text!r} can't be read: {error}") from None
