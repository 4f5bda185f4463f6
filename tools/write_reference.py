"""Write the tables of the documentation that are facts of the code; with `--check`, name the pages that aren't current.

Rules:
* A region stands between `<!-- generated: NAME -->` and `<!-- end -->`; what is between them is never edited by hand.
* `REGIONS` is the one list of regions. What a table says beyond the code stands in a dict that is keyed by the
  code's own members, so that a new member without words fails here.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

import click

import fuseboard
from fuseboard import (
    ArtifactCache,
    BreakerEvent,
    BreakerPolicy,
    BreakerState,
    Caps,
    Cause,
    FuseboardError,
    Host,
    SkipReason,
    _core,
)
from fuseboard._breaker import TRANSITIONS
from fuseboard._hostcalls import HOST_CALLS
from fuseboard._limits import LIMITS, LimitSpec
from fuseboard._nesting import MAX_DEPTH
from fuseboard._slots import RESERVE
from fuseboard._toolchains import TOOLCHAINS
from fuseboard.backends import AnswerCode
from fuseboard.cli import main as cli

ROOT: Final = Path(__file__).resolve().parent.parent
REGION: Final = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_CAUSES: Final = {
    Cause.LIMIT: "a limit tripped; `trap.limit` names it",
    Cause.CRASH: "the guest ran into a WebAssembly trap (`unreachable`, division by zero, a full stack ...)",
    Cause.FAILED: "the guest called `fail`; `trap.detail` is its message",
    Cause.BAD_OUTPUT: "the output doesn't fit the hook's type, or is larger than `Caps.output_bytes`",
    Cause.BAD_POINTER: "the guest passed a pointer outside its memory, an unknown buffer or an unknown log level",
    Cause.COMMIT: "a backend couldn't commit; the plugin is not to blame",
}
_SKIP_REASONS: Final = {
    SkipReason.BREAKER_OPEN: "the plugin's breaker for this hook and scope is open, or another invocation is its probe",
    SkipReason.SATURATED: "no slot, or not enough memory, was free before the deadline; `detail` says what was lacking",
    SkipReason.DEADLINE: "nothing was left of the dispatch's `timeout_ms`, or to the invocation around it",
    SkipReason.REENTRANT: f"the plugin waits for this dispatch itself, or {MAX_DEPTH} are inside of each other already",
    SkipReason.DISABLED: "the plugin was loaded with `enabled=False`",
}
_BREAKER_STATES: Final = {
    BreakerState.CLOSED: "every invocation; those in the window are counted",
    BreakerState.OPEN: "none, until the cooldown is over",
    BreakerState.HALF_OPEN: "one, the *probe*; all others are skipped until it has ended",
}
_BREAKER_EVENTS: Final = {
    BreakerEvent.TRAPS: "so many have trapped as the policy says",
    BreakerEvent.PROBE: "an invocation comes when the cooldown is over: it is the probe; also where an earlier one was "
    "lost",
    BreakerEvent.PROBE_COMPLETED: "the probe completed",
    BreakerEvent.PROBE_TRAPPED: "the probe trapped: the cooldown is doubled",
    BreakerEvent.PROBE_RETURNED: "the probe showed nothing (cancelled, saturated, a commit that failed ...): the next "
    "invocation probes",
    BreakerEvent.OPERATOR_OPENED: "`host.breakers.open`: until it is closed or reset by hand",
    BreakerEvent.OPERATOR_CLOSED: "`host.breakers.close`",
    BreakerEvent.RESET: "`host.breakers.reset`, a reload, or an unload",
}
_ANSWERS: Final = {
    AnswerCode.OK: "done; any number from 0 is the length of the reply's body in bytes",
    AnswerCode.DENIED: "a denial: the target lies outside the grants",
    AnswerCode.BAD_REQUEST: "the call is malformed, or the service can't make sense of it",
    AnswerCode.NOT_FOUND: "no such key or function",
    AnswerCode.BACKEND_FAILED: "the application's service failed or was late",
    AnswerCode.TOO_LARGE: "a part of the request or the reply is larger than a cap, or than the service takes",
    AnswerCode.CONFLICT: "it goes against what is stored there",
}
_WITHOUT_DOCSTRING: Final = {"Outcome": "What became of an invocation: `Completed`, `Trapped` or `Skipped`."}


# ── words ────────────────────────────────────────────────────────────────────────────────────────


def _table(*lines: Iterable[object]) -> str:
    head, *rows = map(tuple, lines)
    written = (
        " | ".join(str(cell).replace("|", r"\|") for cell in line) for line in (head, ("---",) * len(head), *rows)
    )
    return "".join(f"| {line} |\n" for line in written)


def _code(text: object) -> str:
    return f"`{text}`"


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def _section(documented: object, heading: str) -> dict[str, str]:
    """Return the entries `name: words` of a docstring's section, e.g. `Args`."""
    found = re.search(rf"^{heading}:\n((?:    .*\n?)+)", inspect.getdoc(documented) or "", re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", found[1] if found else "", re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words).rstrip(". ") for name, words in entries}


def _amount(spec: LimitSpec, value: int) -> str:
    """Return a value of a limit's key with its unit."""
    return f"{value:,}" if spec.unit == "count" else f"{value:,} {_key_unit(spec)}"


def _key_unit(spec: LimitSpec) -> str:
    return "MiB" if spec.key.endswith("_mb") else spec.unit


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


def _imports() -> Iterator[tuple[str, ...]]:
    for name in _core.IMPORTS:
        fuel = _core.IMPORT_FUEL + _core.HOST_CALL_FUEL * (name in _core.HOST_CALLS)
        call = HOST_CALLS.get(name)
        if call is None:
            yield _code(name), f"{fuel:,}", "", "", ""
            continue
        charged_to = "functions.<name>" if call.kind == "functions" else call.limit
        charged = "fuel only" if charged_to is None else _code(charged_to)
        yield _code(name), f"{fuel:,}", _code(call.kind), charged, _code(call.answered_by.__name__)


def _error_tree(
    error: type[FuseboardError] = FuseboardError, lead: str = ""
) -> Iterator[tuple[str, type[FuseboardError]]]:
    yield lead, error
    for below in error.__subclasses__():
        if below.__name__ in fuseboard.__all__:
            yield from _error_tree(below, f"{lead}    ")


def _errors() -> str:
    found = list(_error_tree())
    drawn = "\n".join(f"{lead}{error.__name__}" for lead, error in found)
    rows = ((_code(error.__name__), _first_line(error), _attributes(error)) for _, error in found)
    return f"```text\n{drawn}\n```\n\n{_table(('error', 'says', 'attributes'), *rows)}"


def _attributes(error: type[FuseboardError]) -> str:
    found = _section(error, "Attributes") or _section(error, "Args")
    return "; ".join(f"`{name}`: {words}" for name, words in found.items())


def _public_names() -> Iterator[tuple[str, str]]:
    for name in fuseboard.__all__:
        yield _code(name), _WITHOUT_DOCSTRING.get(name) or _first_line(getattr(fuseboard, name))


def _host_parameters() -> Iterator[tuple[str, ...]]:
    words = _section(Host, "Args")
    for name, parameter in inspect.signature(Host).parameters.items():
        yield _code(name), _code(_default(parameter.default)), words[name]


def _default(value: object) -> str:
    if inspect.isbuiltin(value):
        return f"{value.__module__}.{value.__name__}"
    if value in (BreakerPolicy(), ArtifactCache()):
        return f"{type(value).__name__}()"
    return f"{value:,}" if isinstance(value, int) else repr(value)


def _policy_fields() -> Iterator[tuple[str, ...]]:
    words = _section(BreakerPolicy, "Attributes")
    for field in fields(BreakerPolicy):
        yield _code(field.name), f"{field.default:,}", words[field.name]


def _transitions() -> Iterator[tuple[str, ...]]:
    for event, words in _BREAKER_EVENTS.items():
        targets = {before: TRANSITIONS[before, event] for before in BreakerState if (before, event) in TRANSITIONS}
        for after in dict.fromkeys(targets.values()):
            befores = [_code(before) for before, target in targets.items() if target is after]
            yield _code(event.name), ", ".join(befores), _code(after), words


def _slot_numbers() -> Iterator[tuple[str, ...]]:
    defaults = inspect.signature(Host).parameters
    for name, words in {
        "max_concurrent_invocations": "invocations at once, of all plugins",
        "max_concurrency": "invocations of one plugin at once",
        "max_guest_memory_mb": "MiB that the memory limits of all that run may add up to",
    }.items():
        yield _code(name), words, f"{defaults[name].default:,}"
    yield "(fixed)", "slots beside these, for nested invocations only", str(RESERVE)
    yield "(fixed)", "invocations inside of each other", str(MAX_DEPTH)


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


def _commands() -> str:
    return "\n".join(_command(name, command) for name, command in all_commands(cli))


def all_commands(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below one, by what is typed after `fuseboard`."""
    below = command.commands if isinstance(command, click.Group) else {}
    for word, each in sorted(below.items()):
        yield f"{name}{word}", each
        yield from all_commands(each, f"{name}{word} ")


def _command(name: str, command: click.Command) -> str:
    arguments = [_metavar(one) for one in command.params if isinstance(one, click.Argument)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    usage = " ".join(["fuseboard", name, *arguments, *["[OPTIONS]"] * bool(options)])
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    told = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    rows = ((_option(one), _option_default(one), one.help or "") for one in options)
    shown = _table(("option", "default", "does"), *rows) if options else ""
    return "\n\n".join(filter(None, (f"### fuseboard {name}", f"```text\n{usage}\n```", told, shown))).rstrip() + "\n"


def _option(option: click.Option) -> str:
    value = "" if option.is_flag else f" {_metavar(option)}"
    return ", ".join(_code(f"{name}{value}") for name in option.opts)


def _metavar(parameter: click.Parameter) -> str:
    choices = parameter.type.choices if isinstance(parameter.type, click.Choice) else ()
    return "|".join(map(str, choices)) or parameter.metavar or parameter.type.name.upper()


def _option_default(option: click.Option) -> str:
    if option.required:
        return "required"
    return _code(option.default) if isinstance(option.default, str | int) and not option.is_flag else ""


def _toolchains() -> Iterator[tuple[str, ...]]:
    for language, toolchain in TOOLCHAINS.items():
        for compiler in toolchain.compilers:
            oldest = ".".join(map(str, compiler.tool.oldest))
            get = compiler.tool.get + (f"; rustup target add {toolchain.rust_target}" if toolchain.rust_target else "")
            set_first = [f"{name}={value}" for name, value in toolchain.environment.items()]
            arguments = (f"'{each}'" if " " in each else each for each in compiler.arguments)
            command = " ".join((*set_first, compiler.tool.name, *arguments))
            yield _code(language), _code(toolchain.marker), f"{compiler.tool.name} ≥ {oldest}: {get}", _code(command)


# ── regions ──────────────────────────────────────────────────────────────────────────────────────

REGIONS: Final[Mapping[str, Callable[[], str]]] = {
    "answer-codes": lambda: _table(
        ("code", "name", "says"), *((int(one), _code(one.name), _ANSWERS[one]) for one in AnswerCode)
    ),
    "bounds": lambda: _table(
        ("what is counted", "the most", "because"),
        *((name, f"{most:,}", reason) for name, most, reason in _core.BOUNDS),
    ),
    "breaker-policy": lambda: _table(("field of `BreakerPolicy`", "default", "is"), *_policy_fields()),
    "breaker-states": lambda: _table(
        ("`BreakerState`", "value", "lets through"),
        *((_code(one.name), _code(one), _BREAKER_STATES[one]) for one in BreakerState),
    ),
    "breaker-transitions": lambda: _table(("`BreakerEvent`", "from", "to", "when"), *_transitions()),
    "caps": lambda: _table(
        ("field of `Caps`", "default, in bytes", "what it bounds"),
        *((_code(name), f"{getattr(Caps(), name):,}", words) for name, words in _section(Caps, "Attributes").items()),
    ),
    "causes": lambda: _table(
        ("`Cause`", "value", "says"), *((_code(one.name), _code(one), _CAUSES[one]) for one in Cause)
    ),
    "commands": _commands,
    "errors": _errors,
    "fuses": lambda: _table(
        ("fuse", "trips above", "what counts"),
        *((_code(spec.limit), _amount(spec, spec.default), spec.counts) for spec in LIMITS),
    ),
    "host-parameters": lambda: _table(("parameter", "default", "is"), *_host_parameters()),
    "imports": lambda: _table(("import", "fuel, without bytes", "capability", "charged to", "answer"), *_imports()),
    "limit-keys": lambda: _table(
        ("key", "limit", "unit", "default", "ceiling", "range of the key"),
        *(
            (
                _code(spec.key),
                _code(spec.limit),
                _key_unit(spec),
                f"{spec.default:,}",
                f"{spec.ceiling:,}",
                f"{spec.minimum:,} to {spec.maximum:,}",
            )
            for spec in LIMITS
        ),
    ),
    "limits": lambda: _table(
        ("no.", "`Limit`", "name", "default", "ceiling", "meter's unit", "what counts"),
        *(
            (
                place,
                _code(spec.limit.name),
                _code(spec.limit),
                _amount(spec, spec.default),
                _amount(spec, spec.ceiling),
                spec.unit,
                spec.counts,
            )
            for place, spec in enumerate(LIMITS)
        ),
    ),
    "prices": lambda: _table(
        ("what", "fuel"),
        ("any import", f"{_core.IMPORT_FUEL:,}"),
        ("a host call, beside that; denied ones too", f"{_core.HOST_CALL_FUEL:,}"),
        ("a byte that an import copies, writes out or logs", f"{_core.BYTE_FUEL:,}"),
        ("a page (64 KiB) of `memory.grow`", f"{_core.GROW_PAGE_FUEL:,}"),
    ),
    "public-names": lambda: _table(("name", "is"), *_public_names()),
    "slots": lambda: _table(("parameter of a host", "bounds", "default"), *_slot_numbers()),
    "toolchains": lambda: _table(("`--lang`", "told by", "needs", "is compiled by"), *_toolchains()),
    "skip-reasons": lambda: _table(
        ("`SkipReason`", "value", "says"),
        *((_code(one.name), _code(one), _SKIP_REASONS[one]) for one in SkipReason),
    ),
}


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Yield each page with a region that isn't current, and the text that it should have."""
    for page in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        current = REGION.sub(lambda found: f"{found[1]}{REGIONS[found[2]]()}{found[3]}", text)
        if current != text:
            yield page, current


def main() -> None:
    """Rewrite the pages, or only name those that aren't current."""
    stale = list(stale_pages())
    if "--check" not in sys.argv[1:]:
        for page, text in stale:
            page.write_text(text, encoding="utf-8")
    elif stale:
        names = ", ".join(str(page.relative_to(ROOT)) for page, _ in stale)
        sys.exit(f"not current: {names}; run tools/write_reference.py")


if __name__ == "__main__":
    main()
