"""Which parameters a statement for SQLite has: `$1` is a name there, and a sequence would be bound in the order of use.

Rule: strings, quoted names and comments hold no parameters, and a quote that isn't closed goes to the end, so that the
text is read once, whatever it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from fuseboard._errors import BackendError
from fuseboard.backends import AnswerCode
from fuseboard.backends._database import Parameter

_TOKEN: Final = re.compile(
    r"""'(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) | \[[^\]]*(?:\]|\Z)
    | --[^\n]* | /\*.*?(?:\*/|\Z) | (?<!\w)(?:\$(?P<number>[1-9][0-9]{0,4})\b | (?P<other>\$\w* | [?:@]\w+ | \?))""",
    re.DOTALL | re.VERBOSE,
)


def bound(sql: str, values: Sequence[Parameter]) -> dict[str, Parameter]:
    """Return what each parameter of a statement is bound to, by its name for `sqlite3`.

    Raises:
        BackendError: `BAD_REQUEST`, where statement and values don't fit.
    """
    used = _used(sql)
    for number in used:
        if number > len(values):
            raise _bad_request(f"there is no value for ${number}: the call has {len(values)}")
    for number in range(1, 1 + len(values)):
        if number not in used:
            raise _bad_request(f"the statement doesn't use ${number}")
    return {str(number): value for number, value in enumerate(values, 1)}


def _used(sql: str) -> set[int]:
    used = set()
    for token in _TOKEN.finditer(sql):
        if token["other"]:
            raise _bad_request(f"parameters are written $1, $2 and so on, not {token['other'][:32]}")
        if token["number"]:
            used.add(int(token["number"]))
    return used


def _bad_request(reason: str) -> BackendError:
    return BackendError(reason, code=AnswerCode.BAD_REQUEST)
