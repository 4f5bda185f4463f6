"""A guest that makes the host calls that its value lists, and gives back what each was answered.

Rule: a script is data; what is expected of it is worked out by whoever wrote it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from benchmarks.soaks._guests import wasm

_HEAD: Final = struct.Struct("<iiiiq")
_CALLS: Final = (
    "host_http_request", "host_db_query", "host_db_exec", "host_kv_get", "host_kv_set", "host_kv_delete",
    "host_kv_increment", "fail",
)  # fmt: skip

_WAT: Final = """
(module
  (import "fuseboard" "buffer_length" (func $length (param i32) (result i32)))
  (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "output_write" (func $write (param i32 i32)))
  (import "fuseboard" "fail" (func $fail (param i32 i32)))
  (import "fuseboard" "host_http_request" (func $http (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_db_query" (func $query (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_db_exec" (func $exec (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_kv_get" (func $get (param i32 i32) (result i32)))
  (import "fuseboard" "host_kv_set" (func $set (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_kv_delete" (func $delete (param i32 i32) (result i32)))
  (import "fuseboard" "host_kv_increment" (func $increment (param i32 i32 i64) (result i32)))
  (memory (export "memory") 4)

  ;; 0: a number on its way out; 1024: a reply; 0x20000: the script.
  (func (export "run") (local $at i32) (local $end i32) (local $a i32) (local $b i32)
    (local.set $at (i32.const 0x20000))
    (local.set $end (i32.add (local.get $at)
      (call $read (i32.const 0) (i32.const 0) (local.get $at) (i32.const 0x20000))))
    (call $write (i32.const 0) (i32.const 0))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $a (i32.add (local.get $at) (i32.const 24)))
        (local.set $b (i32.add (local.get $a) (i32.load offset=4 (local.get $at))))
        (call $say (call $act (i32.load (local.get $at))
          (local.get $a) (i32.load offset=4 (local.get $at))
          (local.get $b) (i32.load offset=8 (local.get $at))
          (i64.load offset=16 (local.get $at))))
        (call $show (i32.const 2))
        (call $show (i32.const 3))
        (local.set $at (i32.add (local.get $b) (i32.load offset=8 (local.get $at))))
        (br $next))))

  (func $act (param $call i32) (param $a i32) (param $al i32) (param $b i32) (param $bl i32) (param $n i64) (result i32)
    (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 (local.get $call)))
    (return (call $http (local.get $a) (local.get $al) (local.get $b) (local.get $bl))))
    (return (call $query (local.get $a) (local.get $al) (local.get $b) (local.get $bl))))
    (return (call $exec (local.get $a) (local.get $al) (local.get $b) (local.get $bl))))
    (return (call $get (local.get $a) (local.get $al))))
    (return (call $set (local.get $a) (local.get $al) (local.get $b) (local.get $bl))))
    (return (call $delete (local.get $a) (local.get $al))))
    (return (call $increment (local.get $a) (local.get $al) (local.get $n))))
    (call $fail (local.get $a) (local.get $al))
    (i32.const 0))

  (func $say (param i32)
    (i32.store (i32.const 0) (local.get 0))
    (call $write (i32.const 0) (i32.const 4)))

  (func $show (param $buffer i32) (local $length i32)
    (local.set $length (call $read (local.get $buffer) (i32.const 0) (i32.const 1024) (i32.const 0x1f000)))
    (call $say (local.get $length))
    (call $write (i32.const 1024) (local.get $length)))
)
"""


class Call(NamedTuple):
    """One host call: the import, its bytes, and the number that an increment takes."""

    name: str
    first: bytes
    second: bytes = b""
    number: int = 0


class Reply(NamedTuple):
    """What one was answered: a code, or the length of the body; head and body."""

    code: int
    head: bytes
    body: bytes


def guest() -> bytes:
    """Return the module; its export is `run`, and its hook's type `bytes`."""
    return wasm(_WAT)


def script(calls: Iterable[Call]) -> bytes:
    """Return the value that has the guest make these calls, in order."""
    return b"".join(
        _HEAD.pack(_CALLS.index(call.name), len(call.first), len(call.second), 0, call.number)
        + call.first
        + call.second
        for call in calls
    )


def replies(output: bytes) -> list[Reply]:
    """Return what a script's calls were answered, in order."""
    parts = _parts(output)
    return [Reply(int.from_bytes(code, "little", signed=True), next(parts), next(parts)) for code in parts]


def _parts(output: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(output):
        yield output[at : at + 4]
        at += 4
        for _ in range(2):
            length = int.from_bytes(output[at : at + 4], "little")
            yield output[at + 4 : at + 4 + length]
            at += 4 + length
