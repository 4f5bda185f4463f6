"""Reads SQL as PostgreSQL's own lexer does, as far as it takes to know what a text may do.

Rules:
* `standard_conforming_strings` is on: connections say so when they begin.
* Statements and migrations are allow-listed by the words that they begin with. What the server's rights and its
  protocol (one statement a call) refuse isn't refused here again, but for what rights can't express: names of types
  that show other plugins' names (`regclass` ...), and PostgreSQL's inner functions (`pg_...`).
* A text is read once, in time linear in its length, with breaths between: guests' texts are read on the event loop.
  What PostgreSQL wouldn't read either is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from string import ascii_lowercase, ascii_uppercase
from typing import Final, NamedTuple

from fuseboard._errors import BackendError
from fuseboard.backends import AnswerCode
from fuseboard.backends._database import WRITING_KINDS
from fuseboard.backends._postgres_waits import Breath, Flow

_TOKEN: Final = re.compile(
    r"""
      (?P<space> (?: [ \t\n\r\f\v]++ | --[^\n\r]*+ )++ )
    | (?P<comment> /\* )
    | (?P<escaped> [eE]'(?:[^'\\]|''|\\.)*+' )
    | (?P<unicode> [uU]&["'] )
    | (?P<string> (?:[bBxXnN])?'(?:[^']|'')*+' )
    | (?P<quoted> "(?:[^"]|"")++" )
    | (?P<dollar> \$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?)\$ )
    | (?P<parameter> \$[0-9]{1,9}(?![0-9]) )
    | (?P<name> [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]* )
    | (?P<number> (?> (?:[0-9]+\.?[0-9]* | \.[0-9]+) (?:[eE][+-]?[0-9]+)? ) (?![A-Za-z_\x80-\U0010ffff]) )
    | (?P<other> [^'"$0-9] )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_SKIPPED: Final = frozenset({"space", "comment"})
_TOKENS_BETWEEN_BREATHS: Final = 1_000

_REFUSED_NAME: Final = re.compile(
    r"pg_(?!catalog$|sleep$).*|reg(?:class|proc|procedure|oper|operator|type|role|namespace|config|dictionary|collation)"
)
RECORDS: Final = "fuseboard_migrations"
"""The table in each schema that says which migrations were applied."""

MIGRATION_KINDS: Final = (
    "CREATE TABLE", "CREATE UNLOGGED TABLE", "ALTER TABLE", "DROP TABLE",
    "CREATE INDEX", "CREATE UNIQUE INDEX", "ALTER INDEX", "DROP INDEX",
    "CREATE VIEW", "CREATE OR REPLACE VIEW", "ALTER VIEW", "DROP VIEW",
    "CREATE SEQUENCE", "ALTER SEQUENCE", "DROP SEQUENCE",
    "CREATE TYPE", "ALTER TYPE", "DROP TYPE",
    "CREATE DOMAIN", "ALTER DOMAIN", "DROP DOMAIN",
    "CREATE STATISTICS", "DROP STATISTICS", "COMMENT ON",
    "INSERT INTO", "UPDATE", "DELETE FROM", "SELECT", "WITH", "VALUES", "TRUNCATE",
)  # fmt: skip
"""What the statements of a migration begin with."""


class Token(NamedTuple):
    """One word, sign, string or number; `text` is a name as PostgreSQL sees it, anything else as it is written."""

    kind: str
    text: str
    start: int
    end: int


def tokens(sql: str) -> Iterator[Token]:
    """Read a text, spaces and comments too.

    Raises:
        BackendError: `BAD_REQUEST`: it isn't SQL, or written in a way that isn't served.
    """
    place, before = 0, ""
    while place < len(sql):
        match = _TOKEN.match(sql, place)
        if match is None:
            raise bad_request(f"this can't be read: {sql[place : place + 32]!r}")
        kind = str(match.lastgroup if match.lastgroup != "tag" else "dollar")
        end = match.end()
        if kind == "comment":
            end = _after_comment(sql, end)
        elif kind == "dollar":
            end = _after_dollar_quote(sql, match)
        elif kind == "unicode":
            raise bad_request("U&'...' and U&\"...\" aren't served: write the characters themselves")
        elif kind == "string" and before == "escaped":
            raise bad_request("a string after E'...' goes on with it: write one string")
        yield Token(kind, _text(kind, match.group()), place, end)
        before = before if kind in _SKIPPED else kind
        place = end


def check_call(sql: str, parameters: int) -> Flow[None]:
    """Refuse a guest's statement: its kind, its names, and parameters that don't fit.

    Raises:
        BackendError: `BAD_REQUEST`, with what to do.
    """
    used: set[int] = set()
    has_begun = has_ended = False
    for place, token in enumerate(_read(sql), 1):
        if place % _TOKENS_BETWEEN_BREATHS == 0:
            yield Breath()
        if token.kind in _SKIPPED:
            continue
        if _ends_statement(token):
            has_ended = True
            continue
        if has_ended:
            raise bad_request("a call has one statement")
        if not has_begun and token.text != "(":
            _check_kind(token)
            has_begun = True
        _check_name(token)
        if token.kind == "parameter":
            used.add(int(token.text[1:]))
    if not has_begun:
        raise _not_a_kind("")
    _check_parameters(used, parameters)


def migration_statements(sql: str) -> Iterator[str]:
    """Return the statements of a migration, one after the other.

    Raises:
        BackendError: one of them is of a kind, or has a name, that migrations may not use.
    """
    for statement in _statements(_read(sql)):
        words = " ".join(token.text.upper() for token in statement[:4])
        if not any(f"{words} ".startswith(f"{kind} ") for kind in MIGRATION_KINDS):
            raise bad_request(f"a migration can't do {words[:60]!r}: it may {', '.join(MIGRATION_KINDS)}")
        for token in statement:
            _check_name(token)
            if token.text == RECORDS:
                raise bad_request(f"{RECORDS} has the records of what was applied, which migrations don't touch")
        yield sql[statement[0].start : statement[-1].end]


def _read(sql: str) -> Iterator[Token]:
    if "\0" in sql:
        raise bad_request("SQL has no zero characters")
    return tokens(sql)


def _statements(read: Iterable[Token]) -> Iterator[tuple[Token, ...]]:
    """Split at semicolons; what has no token is no statement."""
    statement: list[Token] = []
    for token in read:
        if _ends_statement(token):
            if statement:
                yield tuple(statement)
            statement = []
        elif token.kind not in _SKIPPED:
            statement.append(token)
    if statement:
        yield tuple(statement)


def _ends_statement(token: Token) -> bool:
    return token.kind == "other" and token.text == ";"


def _check_kind(first: Token) -> None:
    kind = first.text.upper() if first.kind == "name" else ""
    if kind not in WRITING_KINDS:
        raise _not_a_kind(kind)


def _not_a_kind(kind: str) -> BackendError:
    return bad_request(f"a statement begins with one of {', '.join(sorted(WRITING_KINDS))}, not {kind or 'this'!r}")


def _check_name(token: Token) -> None:
    if token.kind in {"name", "quoted"} and _REFUSED_NAME.fullmatch(token.text):
        raise bad_request(f"{token.text[:63]} is PostgreSQL's own, and not for plugins")


def _check_parameters(used: set[int], values: int) -> None:
    for number in sorted(used):
        if not 1 <= number <= values:
            raise bad_request(f"there is no value for ${number}: the call has {values}")
    for number in range(1, 1 + values):
        if number not in used:
            raise bad_request(f"the statement doesn't use ${number}")


def _after_comment(sql: str, place: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, place)
        if edge is None:
            raise bad_request("a comment isn't closed")
        depth += 1 if edge.group() == "/*" else -1
        place = edge.end()
    return place


def _after_dollar_quote(sql: str, opening: re.Match[str]) -> int:
    closing = sql.find(opening.group(), opening.end())
    if closing < 0:
        raise bad_request("a dollar quote isn't closed")
    return closing + len(opening.group())


def _text(kind: str, written: str) -> str:
    if kind == "name":
        return written.translate(_LOWER)
    return written[1:-1].replace('""', '"') if kind == "quoted" else written


def bad_request(reason: str) -> BackendError:
    """Return what is answered for a statement that isn't served."""
    return BackendError(reason, code=AnswerCode.BAD_REQUEST)
