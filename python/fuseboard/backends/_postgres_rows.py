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
from fuseboard.backends._database import LARGEST_REPLY, MOST_ROWS, VALUE_OVERHEAD, bounded_rows, too_large
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
        self._size = 0

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
        if self.problem is None:
            self.problem = self._problem(values)
        if self.problem is not None:
            self._rows.clear()
            return False
        self._rows.append(
            tuple(None if value is None else load(value) for value, load in zip(values, self._loads, strict=True))
        )
        return True

    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """Return what was taken.

        Raises:
            BackendError: JSON can't hold one of the numbers.
        """
        return bounded_rows(self._rows)

    def _problem(self, values: list[bytes | None]) -> BackendError | None:
        """Look before anything is made of a row; `bounded_rows` looks at what was made."""
        self._size += sum(VALUE_OVERHEAD + len(value or b"") // 2 for value in values)
        if self._size > LARGEST_REPLY:
            return too_large(_TOO_MANY_BYTES)
        return too_large(_TOO_MANY_ROWS) if len(self._rows) >= MOST_ROWS else None


class NoRows:
    """Rows that nobody wants."""

    problem: BackendError | None = None

    def begin(self, result: pq.abc.PGresult) -> None:
        """Look at nothing."""

    def take(self, result: pq.abc.PGresult) -> bool:  # noqa: ARG002  it is dropped
        """Drop one row."""
        return True
