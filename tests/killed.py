"""The process that is killed: `killed.py FOLDER FIRST` invokes a plugin on SQLite files until somebody ends it.

Each invocation has a number and writes it to two rows and a key, and adds 1 to another key. Every fifth then crashes.
The number of each that has completed is a line of the output, written before its thread begins the next.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Final

import fuseboard as fb
from conftest import guest, manifest
from fuseboard.backends.db import Sqlite
from tables import migrations

THREADS: Final = 3
CRASHES: Final = 5
TABLES: Final = migrations("CREATE TABLE halves (number BIGINT NOT NULL, half BIGINT NOT NULL)")
NUMBER: Final = fb.Filter("number", int)
INSERT: Final = "INSERT INTO halves (number, half) VALUES ($1, 1)"
INSERT_OTHER: Final = "INSERT INTO halves (number, half) VALUES ($1, 2)"

WRITES: Final = guest(
    f"""(data (i32.const 0) "count") (data (i32.const 100) "{INSERT}") (data (i32.const 200) "{INSERT_OTHER}")
    (data (i32.const 300) "[")
    (func $check (param i32) (if (i32.lt_s (local.get 0) (i32.const 0)) (then unreachable)))
    (func (export "run") (local $length i32)
      (local.set $length (call $buffer_read (i32.const 0) (i32.const 0) (i32.const 301) (i32.const 20)))
      (i32.store8 (i32.add (i32.const 301) (local.get $length)) (i32.const 93))
      (call $check (call $host_db_exec (i32.const 100) (i32.const {len(INSERT)})
        (i32.const 300) (i32.add (local.get $length) (i32.const 2))))
      (call $check (call $host_kv_set (i32.const 301) (local.get $length) (i32.const 301) (local.get $length)))
      (call $check (call $host_kv_increment (i32.const 0) (i32.const 5) (i64.const 1)))
      (call $check (call $host_db_exec (i32.const 200) (i32.const {len(INSERT_OTHER)})
        (i32.const 300) (i32.add (local.get $length) (i32.const 2))))
      (if (i32.eq (i32.load8_u (i32.add (i32.const 300) (local.get $length))) (i32.const 48)) (then unreachable))
      (if (i32.eq (i32.load8_u (i32.add (i32.const 300) (local.get $length))) (i32.const 53)) (then unreachable)))"""
)
"""Writes its number, `[number]` at 300, and crashes where its last digit is 0 or 5."""


def main(folder: Path, first: int) -> None:
    """Invoke until killed."""
    logging.getLogger("fuseboard").setLevel(logging.CRITICAL)
    store = Sqlite(folder)
    store.prepare("writes", TABLES)
    host = fb.Host(hooks=[NUMBER], backends=fb.Backends(db=store, kv=store), breaker=None)
    said = {"capabilities": {"db": "write", "kv": True}}
    host.load_bytes(WRITES, manifest("writes", "number", **said), grants="as-requested")
    numbers = count(first)
    for _ in range(THREADS):
        threading.Thread(target=invoke, args=(host, numbers)).start()


def invoke(host: fb.Host, numbers: count[int]) -> None:
    """Invoke with one number after the other, and tell of each that has completed."""
    while True:
        number = next(numbers)
        outcome = host.invoke("writes", NUMBER, number)
        assert isinstance(outcome, fb.Completed) == bool(number % CRASHES), outcome
        if isinstance(outcome, fb.Completed):
            os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
