"""Write the tables of the documentation that are facts of the code; with `--check`, name those that aren't current.

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
from pathlib import Path
from typing import Any, Final

import click

import fuseboard
from fuseboard import Caps, Cause, FuseboardError, Host, SkipReason, _core
from fuseboard._hostcalls import HOST_CALLS, HostCall
from fuseboard._limits import LIMITS
from fuseboard.backends import AnswerCode
from fuseboard.cli import main as cli

ROOT: Final = Path(__file__).resolve().parent.parent
REGION: Final = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

CAUSES: Final = {
    Cause.LIMIT: "a limit tripped; `trap.limit` names it",
    Cause.CRASH: "the guest ran into a WebAssembly trap (`unreachable`, division by zero, a full stack ...)",
    Cause.FAILED: "the guest called `fail`; `trap.detail` is its message",
    Cause.BAD_OUTPUT: "the output doesn't fit the hook's type, or is larger than `Caps.output_bytes`",
    Cause.BAD_POINTER: "the guest passed a pointer outside its memory, an unknown buffer or an unknown log level",
    Cause.COMMIT: "a backend couldn't commit; the plugin is not to blame",
}
SKIP_REASONS: Final = {
    SkipReason.BREAKER_OPEN: "reserved for the breaker; not given yet",
    SkipReason.SATURATED: "the pool had no room for one more instance",
    SkipReason.DEADLINE: "nothing was left of the dispatch's `timeout_ms`",
    SkipReason.REENTRANT: "reserved for the nesting rules; not given yet",
    SkipReason.DISABLED: "the plugin was loaded with `enabled=False`",
}
ANSWERS: Final = {
    AnswerCode.OK: "done; any number from 0 is the length of the reply's body in bytes",
    AnswerCode.DENIED: "a denial: the target lies outside the grants",
    AnswerCode.BAD_REQUEST: "the call is malformed, or the service can't make sense of it",
    AnswerCode.NOT_FOUND: "no such key or function",
    AnswerCode.BACKEND_FAILED: "the application's service failed or was late",
    AnswerCode.TOO_LARGE: "a part of the request or the reply is larger than a cap, or than the service takes",
    AnswerCode.CONFLICT: "it goes against what is stored there",
}
WITHOUT_DOCSTRING: Final = {"Outcome": "What became of an invocation: `Completed`, `Trapped` or `Skipped`."}
WORDS: Final = dict(_core.BOUNDS)


# ── words and tables ─────────────────────────────────────────────────────────────────────────────


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(text: object) -> str:
    """Return a text as Markdown code."""
    return f"`{text}`"


def number(value: object) -> str:
    """Return a number with thousands separated."""
    return f"{value:,}"


def first_line(documented: object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def section(documented: object, heading: str) -> dict[str, str]:
    """Return the entries `name: words` of a docstring's section, e.g. `Args`."""
    body = re.search(rf"^{heading}:\n((?:    .*\n?)+)", inspect.getdoc(documented) or "", re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", body[1] if body else "", re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words) for name, words in entries}


# ── regions ──────────────────────────────────────────────────────────────────────────────────────


def fuses() -> str:
    """Return the limits as the README shows them."""
    return table(
        ("fuse", "trips at more than", "what counts"),
        ((code(spec.limit), _amount(spec.default, spec.key, spec.unit), spec.counts) for spec in LIMITS),
    )


def _amount(value: int, key: str, unit: str) -> str:
    if key.endswith("_mb"):
        return f"{number(value)} MiB"
    return number(value) if unit == "count" else f"{number(value)} {unit}"


def limits() -> str:
    """Return the limits with everything that the table knows."""
    return table(
        ("no.", "`Limit`", "name", "default", "ceiling", "meter's unit", "what counts"),
        (
            (
                place,
                code(spec.limit.name),
                code(spec.limit),
                _amount(spec.default, spec.key, spec.unit),
                _amount(spec.ceiling, spec.key, spec.unit),
                spec.unit,
                spec.counts,
            )
            for place, spec in enumerate(LIMITS)
        ),
    )


def limit_keys() -> str:
    """Return the limits' manifest keys."""
    return table(
        ("key", "limit", "unit", "default", "ceiling", "range of the key"),
        (
            (
                code(spec.key),
                code(spec.limit),
                "MiB" if spec.key.endswith("_mb") else spec.unit,
                number(spec.default),
                number(spec.ceiling),
                f"{number(spec.minimum)} to {number(spec.maximum)}",
            )
            for spec in LIMITS
        ),
    )


def caps() -> str:
    """Return the operator's caps."""
    default, words = Caps(), section(Caps, "Attributes")
    return table(
        ("field of `Caps`", "default, in bytes", "what it bounds"),
        ((code(name), number(getattr(default, name)), words[name]) for name in Caps.__dataclass_fields__),
    )


def prices() -> str:
    """Return what the host's work costs."""
    return table(
        ("what", "fuel"),
        (
            ("any import", number(_core.IMPORT_FUEL)),
            ("a host call, beside that; denied ones too", number(_core.HOST_CALL_FUEL)),
            ("a byte that an import copies, writes out or logs", number(_core.BYTE_FUEL)),
            ("a page (64 KiB) of `memory.grow`", number(_core.GROW_PAGE_FUEL)),
        ),
    )


def imports() -> str:
    """Return every import with its price, and for host calls what they need and spend."""
    return table(
        ("import", "fuel, without bytes", "capability", "charged to", "answer"),
        (_import_row(name, HOST_CALLS.get(name)) for name in _core.IMPORTS),
    )


def _import_row(name: str, call: type[HostCall] | None) -> Iterator[str]:
    suspends = name in _core.HOST_CALLS
    yield code(name)
    yield number(_core.IMPORT_FUEL + _core.HOST_CALL_FUEL * suspends)
    if call is None:
        yield from ("", "", "")
        return
    yield code(call.kind)
    yield code("functions.<name>" if call.kind == "functions" else call.limit) if _is_charged(call) else "fuel only"
    yield code(call.answered_by.__name__)


def _is_charged(call: type[HostCall]) -> bool:
    return call.kind == "functions" or call.limit is not None


def answer_codes() -> str:
    """Return what a host call returns."""
    return table(("code", "name", "says"), ((int(one), code(one.name), ANSWERS[one]) for one in AnswerCode))


def bounds() -> str:
    """Return the bounds of the look at a module before it is compiled."""
    return table(("what is counted", "the most"), ((name, number(most)) for name, most in _core.BOUNDS))


def causes() -> str:
    """Return why an invocation can trap."""
    return table(("`Cause`", "value", "says"), ((code(one.name), code(one), CAUSES[one]) for one in Cause))


def skip_reasons() -> str:
    """Return why an invocation may not take place."""
    return table(
        ("`SkipReason`", "value", "says"), ((code(one.name), code(one), SKIP_REASONS[one]) for one in SkipReason)
    )


def errors() -> str:
    """Return the tree of exceptions, and what each says."""
    found = list(_tree(FuseboardError, ""))
    drawn = "\n".join(f"{lead}{error.__name__}" for lead, error in found)
    return f"```text\n{drawn}\n```\n\n" + table(
        ("error", "says", "attributes"),
        ((code(error.__name__), first_line(error), _attributes(error)) for _, error in found),
    )


def _tree(error: type[FuseboardError], lead: str) -> Iterator[tuple[str, type[FuseboardError]]]:
    yield lead, error
    for below in error.__subclasses__():
        if below.__name__ in fuseboard.__all__:
            yield from _tree(below, lead + "    ")


def _attributes(error: type[FuseboardError]) -> str:
    own = error.__doc__ or ""
    found = section(error, "Attributes") or section(error, "Args") if own else {}
    return "; ".join(f"`{name}`: {words.rstrip('.')}" for name, words in found.items())


def public_names() -> str:
    """Return every public name with its first line."""
    return table(
        ("name", "is"),
        (
            (code(name), WITHOUT_DOCSTRING.get(name) or first_line(getattr(fuseboard, name)))
            for name in fuseboard.__all__
        ),
    )


def host_parameters() -> str:
    """Return the parameters of `Host`."""
    words = section(Host, "Args")
    parameters = inspect.signature(Host).parameters
    return table(
        ("parameter", "default", "is"),
        ((code(name), _default(parameter.default), words[name]) for name, parameter in parameters.items()),
    )


def _default(value: object) -> str:
    if callable(value):
        return code(f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', '')}")
    return code(number(value) if isinstance(value, int) else repr(value))


def commands() -> str:
    """Return every command with its arguments and options."""
    return "\n".join(_command(name, command) for name, command in sorted(_commands().items()))


def _commands() -> Mapping[str, click.Command]:
    return cli.commands if isinstance(cli, click.Group) else {}


def _command(name: str, command: click.Command) -> str:
    arguments = [one.make_metavar(click.Context(command)) for one in command.params if isinstance(one, click.Argument)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    rows = ((", ".join(map(code, one.opts)), _option_default(one), one.help or "") for one in options)
    usage = " ".join([f"fuseboard {name}", *arguments, *(["[OPTIONS]"] if options else [])])
    told = re.sub(r"\n(?!\n)(?<!\n\n)", " ", inspect.cleandoc(command.help or "")).replace("\b", "").strip()
    shown = table(("option", "default", "does"), rows) if options else ""
    return f"### fuseboard {name}\n\n```text\n{usage}\n```\n\n{told}\n\n{shown}"


def _option_default(option: click.Option) -> str:
    if option.required:
        return "required"
    return "" if option.default is None or option.is_flag or _is_unset(option.default) else code(option.default)


def _is_unset(value: Any) -> bool:  # noqa: ANN401  click's own marker has no public type
    return "UNSET" in repr(value).upper()


REGIONS: Final[Mapping[str, Callable[[], str]]] = {
    "answer-codes": answer_codes,
    "bounds": bounds,
    "caps": caps,
    "causes": causes,
    "commands": commands,
    "errors": errors,
    "fuses": fuses,
    "host-parameters": host_parameters,
    "imports": imports,
    "limit-keys": limit_keys,
    "limits": limits,
    "prices": prices,
    "public-names": public_names,
    "skip-reasons": skip_reasons,
}


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


def pages() -> list[Path]:
    """Return every page that may have regions."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def written(text: str) -> str:
    """Return a page's text with each region as the code has it."""
    return REGION.sub(lambda found: f"{found[1]}{REGIONS[found[2]]()}{found[3]}", text)


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Yield each page with a region that isn't current, and the text that it should have."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (current := written(text)) != text:
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
