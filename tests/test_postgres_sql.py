"""PostgreSQL's lexer and ours: what we let through is what the server reads, whatever quotes and comments it has."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import pq

from fuseboard._errors import BackendError
from fuseboard.backends._database import LONGEST_STATEMENT
from fuseboard.backends._postgres_sql import check_call, migration_statements, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Server

ALLOWED = (b"SELECT", b"INSERT", b"UPDATE", b"DELETE")
PIECES = [
    "SELECT", " ", "1", "'", "''", '"', "E'", "e'", "B'", "N'", "X'", "U&'", "\\", "\\'", "$$", "$a$", "$1", "a", "e",
    "--", "/*", "*/", "/", "*", "\n", "\r", ";", "SET work_mem = 64", "LISTEN x", "BEGIN", "(", ")", ",", ".", "+",
    "1e", "0x", "é", "WITH a AS (", "FROM", "AS", "\t", "\v", "'a'\n'", "COMMIT", "::text", "'x'",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(postgres_server: Server) -> Iterator[psycopg.Connection]:
    """A superuser's connection, with nothing between."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        yield connection


def checked(text: str, parameters: int) -> None:
    """Check a call's text, without breaths."""
    for _ in check_call(text, parameters):
        pass


def tags(connection: psycopg.Connection, text: str) -> list[bytes]:
    """Return what the server says that it did, of each statement of a text, up to the first that fails."""
    pgconn, done = connection.pgconn, []
    pgconn.send_query(text.encode())
    while (result := pgconn.get_result()) is not None:
        if result.status in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
            done.append(result.command_status or b"")
    if pgconn.transaction_status != pq.TransactionStatus.IDLE:
        pgconn.exec_(b"ROLLBACK")
    return done


@settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14))
@example(pieces=["SELECT E'a'\n'\\'; SET work_mem = 64; --'"])
@example(pieces=["/* /* */ SELECT 1; */ SET work_mem = 64"])
@example(pieces=["SELECT 1e'\\'; SET work_mem = 64; --'"])
@example(pieces=["SELECT $a$ $b$ $a$; SET work_mem = 64; -- $b$"])
@example(pieces=["SELECT U&'\\0027'"])
@example(pieces=["SELECT 'a' -- '\n; SET work_mem = 64"])
def test_what_is_let_through_is_one_statement_on_rows(server: psycopg.Connection, pieces: list[str]) -> None:
    """Sent in the protocol that takes many statements, a text that we let through is one, of a kind that is allowed."""
    text = "".join(pieces)
    try:
        checked(text, text.count("$1") and 1)
    except BackendError:
        return
    done = tags(server, text)
    assert len(done) <= 1, (text, done)
    assert all(tag.startswith(ALLOWED) for tag in done), (text, done)


def test_the_control_sees_other_statements(server: psycopg.Connection) -> None:
    """Control: without the check, the server does run the second statement of such a text, and another kind."""
    assert tags(server, "SELECT E'a'\n'\\'; SET work_mem = 64; --'") == [b"SELECT 1"]
    assert tags(server, "SELECT 'a' '\\'; SET work_mem = 64; --'") == []
    assert tags(server, "SELECT 1; SET work_mem = 64") == [b"SELECT 1", b"SET"]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'it''s; fine', $$a;b$$, $x$ ' $x$, E'\\';', \"a;b\" FROM notes -- ; SET",
        "/* ; /* nested */ ; */ WITH a AS (SELECT 1) SELECT * FROM a;",
        "((SELECT 1)) UNION ALL (VALUES (.5e-3), (1.))",
        "select a::text, b @> c from notes where a = any(array[1,2]) ;;",
        "INSERT INTO notes VALUES (1) ON CONFLICT (id) DO NOTHING RETURNING *",
    ],
)
def test_ordinary_statements_pass(text: str) -> None:
    """Quotes, comments, brackets and a last semicolon are no obstacle."""
    checked(text, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-- only",
        ";",
        "SELECT 1; SELECT 2",
        "SELECT 'a",
        'SELECT "a',
        "SELECT $$a",
        "SELECT /* a",
        "SELECT $x",
        "SELECT $" + "9" * 5_000,
        "SET a",
    ],
)
def test_others_do_not(text: str) -> None:
    """Nothing, more than one, what isn't closed, and other kinds are refused."""
    with pytest.raises(BackendError):
        checked(text, 0)


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever is written, the reader ends, and its tokens are the text, in order."""
    try:
        read = list(tokens(text))
    except BackendError:
        return
    assert all(one.end <= two.start for one, two in pairwise(read))
    assert all(token.start < token.end for token in read)


@pytest.mark.parametrize("piece", ["'", '"', "E'\\", "$a$", "/*", "--", "a", "1", "(", "$1 ", "''", "e'", "\\", "/**/"])
def test_reading_takes_time_in_proportion(piece: str) -> None:
    """Four times the text is read or refused in less than twelve times the time: with backtracking it were sixteen."""

    def seconds(length: int) -> float:
        began = time.process_time()
        with suppress(BackendError):
            checked("SELECT " + piece * (length // len(piece)), 1)
        return time.process_time() - began

    assert min(seconds(400_000) / max(seconds(100_000), 0.001) for _ in range(5)) < 12


@pytest.mark.parametrize("piece", ["+1", "/**/", "-- x\n", "1 ", "(", "x "])
def test_reading_lets_others_have_their_turn(piece: str) -> None:
    """However long a text is, and whatever is in it, no more than a little of it is read without a breath."""
    steps, last = [], time.thread_time()
    with suppress(BackendError):
        for _ in check_call("SELECT 1 " + piece * (LONGEST_STATEMENT // len(piece)), 0):
            now = time.thread_time()
            steps.append(now - last)
            last = now
    steps.append(time.thread_time() - last)
    assert max(steps) < 0.020, max(steps)


def test_migrations_are_split() -> None:
    """A migration's statements are its text between semicolons, without those in quotes and comments."""
    text = "CREATE TABLE a (b text DEFAULT ';'); -- ; no\n\n/* ; */ INSERT INTO a VALUES ($$;$$) ; ;"
    assert list(migration_statements(text)) == [
        "CREATE TABLE a (b text DEFAULT ';')",
        "INSERT INTO a VALUES ($$;$$)",
    ]
