"""Backends that live in memory: for tests, for demos, and for data that may be forgotten.

Rules:
* Data belongs to one plugin in one scope, its namespace; nothing that a guest says can name another's.
* A namespace has one lock, so writers of one plugin and scope come one after the other, and whoever waits for a lock
  waits until the deadline. DB and KV are two stores: each commits whole, not both as one, and two invocations that take
  the two locks in opposite order wait for each other until the first deadline.
* The calls, the commit and the rollback of a session exclude each other, whichever threads they come from, and a
  session that has ended does nothing any more: an abandoned call can't take the lock after its rollback.
"""

from __future__ import annotations

from fuseboard.backends._memory_db import MemoryDb
from fuseboard.backends._memory_http import MemoryHttp
from fuseboard.backends._memory_kv import MemoryKv

__all__ = ["MemoryDb", "MemoryHttp", "MemoryKv"]
