"""What becomes of the rows of one statement, as they come one by one.

Rules:
* Rows are kept up to what a reply holds; then no more are wanted, and the problem is kept for the end: the statement's
  results are read to their end first, so that the connection lives.
* A statement that isn't a query has its rows read and dropped.
"""

from __future__ import annotations

from typing import Any, Final

from psycopg import pq

from fuseboard._errors import BackendError
from fuseboard.backends._database import LARGEST_REPLY, MOST_ROWS, VALUE_OVERHEAD, row_size, too_large
from fuseboard.backends._postgres_values import Load, loads

_TOO_MANY_BYTES: Final = f"the rows are over {LARGEST_REPLY} bytes; ask for less"
_TOO_MANY_ROWS: Final = f"there are more than {MOST_ROWS} rows; add a LIMIT"


class Rows:
    """The rows of a query.

    Attributes:
        columns: the columns' names.
        problem: why they can't be answered, or `None`.
    """

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = ()
        self.problem: BackendError | None = None
        self._loads: tuple[Load, ...] = ()
        self._rows: list[tuple[Any, ...]] = []
        self._came = self._size = 0

    def begin(self, result: pq.abc.PGresult) -> None:
        """See the columns."""
        width = range(result.nfields)
        self.columns = tuple((result.fname(at) or b"").decode() for at in width)
        try:
            self._loads = loads([result.ftype(at) for at in width], self.columns)
        except BackendError as problem:
            self.problem = problem

    def take(self, result: pq.abc.PGresult) -> bool:
        """Take one row, and return whether more are wanted."""
        values = [result.get_value(0, at) for at in range(result.nfields)]
        try:
            if self.problem is None:
                self._take(values)
        except BackendError as problem:
            self.problem = problem
            self._rows.clear()
        return self.problem is None

    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """Return what was taken."""
        return tuple(self._rows)

    def _take(self, values: list[bytes | None]) -> None:
        """Look before anything is made of a row, and at what was made."""
        self._came += sum(VALUE_OVERHEAD + len(value or b"") // 2 for value in values)
        if self._came > LARGEST_REPLY:
            raise too_large(_TOO_MANY_BYTES)
        if len(self._rows) >= MOST_ROWS:
            raise too_large(_TOO_MANY_ROWS)
        row = tuple(None if value is None else load(value) for value, load in zip(values, self._loads, strict=True))
        self._size += row_size(row)
        if self._size > LARGEST_REPLY:
            raise too_large(_TOO_MANY_BYTES)
        self._rows.append(row)


class NoRows:
    """Rows that nobody wants."""

    problem: BackendError | None = None

    def begin(self, result: pq.abc.PGresult) -> None:
        """Look at nothing."""

    def take(self, result: pq.abc.PGresult) -> bool:  # noqa: ARG002  it is dropped
        """Drop one row."""
        return True
