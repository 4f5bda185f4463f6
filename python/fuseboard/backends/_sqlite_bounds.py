"""How long SQLite works on a statement without a look at the clock: while it compiles, and between two turns of loops.

Rules:
* Nothing interrupts SQLite while it compiles, and it writes out a view or a common table expression wherever it is
  named: twenty of which each names the one before twice are a million. So words are counted as if written out.
* Nothing interrupts a program between two turns of a loop. What its instructions take there grows with the values that
  they work on: the more a program computes, the less its values may hold.
* Both are upper bounds, taken over a whole statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from fuseboard._limits import MIB
from fuseboard.backends._database import too_large

LARGEST_VALUE: Final = MIB
"""The most that a value holds, and a row of a table, in bytes. At 4 MiB, one JSON function took 54 ms."""

MOST_WORDS: Final = 20_000
"""The most words of a statement that is written out, some 12 ms of compiling."""

_MOST_DEFINED: Final = 100
_STATEMENTS_KEPT: Final = 256
_LARGEST_ROW: Final = 8 * MIB
_MOST_WORK: Final = 16
_COSTS: Final = {
    **dict.fromkeys(("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Compare", "If", "IfNot", "IsTrue", "Not", "And", "Or"), 1.0),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Divide", "Remainder", "Concat", "Cast", "MustBeInt"), 2.0),
    **dict.fromkeys(("BitAnd", "BitOr", "BitNot", "ShiftLeft", "ShiftRight"), 2.0),
    **dict.fromkeys(("Copy", "MakeRecord"), 0.25),
    "VFilter": 16.0, "VColumn": 4.0,
}  # fmt: skip
"""Milliseconds that an instruction takes for each MiB at worst: numbers are read from text."""

_QUICK: Final = frozenset({
    "abs", "avg", "coalesce", "count", "dense_rank", "first_value", "ifnull", "iif", "lag", "last_value", "lead", "max",
    "min", "nullif", "random", "rank", "round", "row_number", "sign", "sum", "total", "typeof",
})  # fmt: skip
_SLOW: Final = {"like": 112.0, "printf": 128.0, "strftime": 96.0}
_QUICK_CALL, _CALL, _JSON_CALL = 1.0, 6.0, 16.0
_CALLS: Final = frozenset({"Function", "PureFunc", "AggStep", "AggStep1", "AggInverse", "AggValue", "AggFinal"})
_GIVES_A_VALUE: Final = _CALLS | {"Variable", "Concat", "Cast", "Copy", "SCopy", "VColumn"}
_NUMERIC_COLUMNS: Final = re.compile("[C-F]")
_LEXEME: Final = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) | \[[^\]]*(?:\]|\Z))
    | (?:--[^\n]*|/\*.*?(?:\*/|\Z)|\s+) | (?P<bare>[\w$]+|.)""",
    re.DOTALL | re.VERBOSE,
)

_VIEWS: Final = "SELECT name, sql FROM sqlite_schema WHERE type = 'view'"
_TRIGGERS: Final = "SELECT sql FROM sqlite_schema WHERE type = 'trigger'"

Ours = Callable[[str], list[Any]]
"""Runs a statement of our own, and returns its rows."""

Lexeme = tuple[str, bool]
"""A word or sign in small letters, without its quotes, and whether it had none."""


# ── compiling ────────────────────────────────────────────────────────────────────────────────────


def words(sql: str, views: Mapping[str, int]) -> int:
    """Return how many words a statement has, at most, when what it names is written out.

    Args:
        sql: the statement.
        views: how many words each view has, by its name in small letters.
    """
    if len(sql) <= MOST_WORDS and not views and "with" not in sql.lower():
        return len(sql)
    lexemes = tuple(_lexemes(sql))
    tables = tuple(_common_tables(lexemes)) if ("with", True) in lexemes else ()
    bodies = dict(tables)
    if len(bodies) < len(tables) or len(bodies) > _MOST_DEFINED or bodies.keys() & views.keys():
        return MOST_WORDS + 1
    return _Lengths(bodies, views).of(lexemes)


def views_words(views: Mapping[str, str]) -> dict[str, int]:
    """Return how many words each of a database's views has, by its name in small letters; `views` has their SQL."""
    if len(views) > _MOST_DEFINED:
        return dict.fromkeys(map(str.lower, views), MOST_WORDS + 1)
    bodies = {name.lower(): tuple(_lexemes(sql)) for name, sql in views.items()}
    lengths = _Lengths(bodies, {})
    return {name: lengths.named(name) for name in bodies}


class _Lengths:
    """How many words things have that name each other; what names itself is written out once."""

    def __init__(self, bodies: Mapping[str, Sequence[Lexeme]], known: Mapping[str, int]) -> None:
        self._bodies = bodies
        self._known = dict(known)

    def of(self, lexemes: Sequence[Lexeme]) -> int:
        return sum(self.named(text) for text, _ in lexemes)

    def named(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = 1
            if name in self._bodies:
                self._known[name] = self.of(self._bodies[name])
        return self._known[name]


def _lexemes(sql: str) -> Iterable[Lexeme]:
    for found in _LEXEME.finditer(sql):
        if found["bare"]:
            yield found["bare"].lower(), True
        elif found["quoted"]:
            quote = found["quoted"][0]
            yield found["quoted"].strip(quote + "]").replace(quote * 2, quote).lower(), False


def _common_tables(lexemes: Sequence[Lexeme]) -> Iterable[tuple[str, Sequence[Lexeme]]]:
    """Yield the name and the body of each `name (columns) AS NOT MATERIALIZED (body)`."""
    for place, lexeme in enumerate(lexemes):
        if lexeme != ("as", True):
            continue
        begins = place + 1
        while lexemes[begins : begins + 1] in ((("not", True),), (("materialized", True),)):
            begins += 1
        if lexemes[begins : begins + 1] == (("(", True),):
            name = _closing(lexemes, place - 1, -1) - 1 if lexemes[place - 1] == (")", True) else place - 1
            yield lexemes[name][0], lexemes[begins : _closing(lexemes, begins, 1)]


def _closing(lexemes: Sequence[Lexeme], place: int, step: int) -> int:
    """Return the place of the bracket that belongs to the one at a place."""
    depth, signs = 0, {("(", True): step, (")", True): -step}
    while 0 <= place < len(lexemes):
        depth += signs.get(lexemes[place], 0)
        if depth == 0:
            break
        place += step
    return place


class Bounds:
    """What is known of one connection's views, and of the statements that it has met."""

    __slots__ = ("_largest", "_schema", "_views")

    def __init__(self) -> None:
        self._schema: int | None = None
        self._largest: dict[bytes, int] = {}
        self._views: dict[str, int] | None = None

    def forget(self) -> None:
        """Look at all of it again: tables or views are others now."""
        self._largest.clear()
        self._views = None

    def look_again(self, ours: Ours) -> None:
        """Forget it where another connection has changed tables or views; a transaction begins with this."""
        version = ours("PRAGMA schema_version")[0][0]
        if version != self._schema:
            self.forget()
            self._schema = version

    def check_words(self, sql: str, ours: Ours) -> None:
        """Refuse a statement that is too long when it is written out.

        Raises:
            BackendError: `TOO_LARGE`.
        """
        if words(sql, self._views_words(ours)) > MOST_WORDS:
            reason = f"the statement has over {MOST_WORDS} words, its views and common tables written out"
            raise too_large(f"{reason}, or gives two of them one name")

    def check_schema(self, ours: Ours) -> None:
        """Refuse views and triggers that are too long together.

        Raises:
            BackendError: `TOO_LARGE`.
        """
        known = self._views_words(ours)
        if sum(known.values()) + sum(words(sql, known) for (sql,) in ours(_TRIGGERS)) > MOST_WORDS:
            raise too_large(f"the views and triggers have over {MOST_WORDS} words, written out; make less of them")

    def largest_value(self, sql: str, looked_at: Callable[[], int]) -> int:
        """Return how many bytes a value may hold in a statement, which is looked at when it is met first."""
        digest = sha256(sql.encode(errors="replace")).digest()
        known = self._largest.get(digest)
        if known is None:
            known = looked_at()
            if len(self._largest) >= _STATEMENTS_KEPT:
                self._largest.clear()
            self._largest[digest] = known
        return known

    def _views_words(self, ours: Ours) -> dict[str, int]:
        if self._views is None:
            self._views = views_words(dict(ours(_VIEWS)))
        return self._views


# ── running ──────────────────────────────────────────────────────────────────────────────────────


def largest_value(program: Iterable[tuple[Any, ...]]) -> int:
    """Return how many bytes a value may hold in a statement, of which `EXPLAIN` gives the program."""
    work, values, columns, widest = 0.0, 0, set[tuple[int, int | None]](), 0
    for _, instruction, first, second, _, more, *_ in program:
        work += _cost(instruction, more or "")
        values += instruction in _GIVES_A_VALUE
        if instruction == "Column":
            values += (first, second) in columns or (first, None) not in columns
            columns |= {(first, second), (first, None)}
        if instruction == "ResultRow":
            widest = max(widest, second)
    return int(min(LARGEST_VALUE, MIB * _MOST_WORK / max(work, 1), _LARGEST_ROW / max(1, min(widest, values))))


def _cost(instruction: str, more: str) -> float:
    """Return the milliseconds that an instruction takes at worst, for values of a MiB."""
    if instruction in _CALLS:
        name = more.partition("(")[0]
        usual = _QUICK_CALL if name in _QUICK else _JSON_CALL if name.startswith("json") else _CALL
        return _SLOW.get(name, usual)
    numbers = len(_NUMERIC_COLUMNS.findall(more)) if instruction in {"Affinity", "MakeRecord"} else 0
    return _COSTS.get(instruction, 0.0) + numbers
