"""Key-value stores for real use: Redis and Valkey. `pip install 'fuseboard[redis]'`.

`fuseboard.backends.db.Sqlite` keeps keys beside a database, with one commit for both.
"""

from __future__ import annotations

try:
    import redis  # noqa: F401  what the modules below need
except ImportError as error:
    raise ImportError("fuseboard.backends.kv needs redis-py: pip install 'fuseboard[redis]'") from error

from fuseboard.backends._redis_async import AsyncRedisKv
from fuseboard.backends._redis_sync import RedisKv

__all__ = ["AsyncRedisKv", "RedisKv"]
