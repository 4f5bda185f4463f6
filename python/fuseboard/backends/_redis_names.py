"""What a namespace's keys are called in Redis, and the scripts that change them.

Rules:
* Every name is `PREFIX{PLUGIN/SCOPE}:KIND`; plugin and scope are percent-encoded and no prefix has braces, so no name
  can be another namespace's, and all of one are in one slot of a cluster. A guest's key comes last, as it is.
* A script reads, decides and writes, in this order: Redis undoes nothing of a script that fails halfway.
* Everything is decided by the server's clock; expiries come as milliseconds from now.
* `total` holds the bytes of a namespace's keys and values. What expires is removed by Redis without a word, so `sizes`
  and `expiries` keep the size and the time of each key that does, and every commit takes off what is gone by then.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from fuseboard._errors import UsageError

MOST_REAPED: Final = 5000
_GLOB: Final = re.compile(rb"[\\*?\[\]^-]")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one namespace's keys in Redis."""

    lock: bytes
    bookkeeping: tuple[bytes, bytes, bytes]
    values: bytes

    @classmethod
    def of(cls, prefix: str, plugin: str, scope: str | None) -> Names:
        """Return the names for a plugin in a scope."""
        owner = _quoted(plugin) if scope is None else f"{_quoted(plugin)}/{_quoted(scope)}"
        start = f"{prefix}{{{owner}}}:".encode()
        return cls(start + b"lock", (start + b"total", start + b"sizes", start + b"expiries"), start + b"value:")

    def value(self, key: bytes) -> bytes:
        """Return where the value of a guest's key is."""
        return self.values + key

    def pattern(self) -> bytes:
        """Return the glob that all values of the namespace match, and nothing else."""
        return _GLOB.sub(lambda found: b"\\" + found[0], self.values) + b"*"


def check_prefix(prefix: object) -> None:
    """Refuse a prefix that could make two namespaces one, or that nobody could type."""
    if not isinstance(prefix, str) or not prefix.isprintable() or "{" in prefix or "}" in prefix:
        raise UsageError(f"prefix={prefix!r} must be printable text without braces")


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and by what Redis knows it once it has seen it."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)


TAKE: Final = Script("""
-- KEYS: lock, value. ARGV: token, the lock's milliseconds, 1 where the lock must still be held
local holder = redis.call('GET', KEYS[1])
if ARGV[3] == '1' and holder ~= ARGV[1] then return {'lost'} end
if holder and holder ~= ARGV[1] then return {'locked', redis.call('PTTL', KEYS[1])} end
local value, left = redis.call('GET', KEYS[2]), redis.call('PTTL', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'held', value, left}
""")
"""Take the lock, or keep it longer, and read a value under it."""

FREE: Final = Script("""
-- KEYS: lock. ARGV: token
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'free', 0} end
return {'free', redis.call('DEL', KEYS[1])}
""")
"""Give the lock back where it is one's own, and tell whether it was."""

COMMIT: Final = Script("""
-- KEYS: lock, total, sizes, expiries, then a value for each write.
-- ARGV: token, 1 where the lock must be held, 1 to weigh only, the most bytes, the most keys to reap,
-- then for each write its key, value and milliseconds: 0 keeps it for ever, -1 deletes it
local lock, total, sizes, expiries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, counts, weighs, most = ARGV[1], ARGV[2] == '1', ARGV[3] == '1', tonumber(ARGV[4])
local FIRST = 6
local function whole(number) return string.format('%.0f', number) end
local function note(bytes)
  if bytes > 0 then redis.call('SET', total, whole(bytes)) else redis.call('DEL', total) end
end

local holder = redis.call('GET', lock)
if not weighs then
  if counts and holder ~= token then return {'lost'} end
  if holder and holder ~= token then return {'locked', redis.call('PTTL', lock)} end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local used = tonumber(redis.call('GET', total) or '0')
local gone, reaped = redis.call('ZRANGEBYSCORE', expiries, '-inf', '(' .. whole(now), 'LIMIT', 0, ARGV[5]), {}
for _, key in ipairs(gone) do
  reaped[key] = true
  used = used - tonumber(redis.call('HGET', sizes, key) or '0')
end

local after, expiring = used, {}
for place = FIRST, #ARGV, 3 do
  local key, value, left = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  local name = KEYS[4 + (place - FIRST) / 3 + 1]
  local size = not reaped[key] and redis.call('HGET', sizes, key)
  expiring[key] = size
  if not size and not reaped[key] and redis.call('EXISTS', name) == 1 then
    size = #key + redis.call('STRLEN', name)
  end
  after = after - (size and tonumber(size) or 0)
  if left >= 0 then after = after + #key + #value end
end
local full = after > most and after > used

if #gone > 0 and (weighs or full) then note(used) end
for _, key in ipairs(gone) do
  redis.call('HDEL', sizes, key)
  redis.call('ZREM', expiries, key)
end
if full then return {'full'} end
if weighs then return {'fits', used} end

for place = FIRST, #ARGV, 3 do
  local key, value, left = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  local name = KEYS[4 + (place - FIRST) / 3 + 1]
  if expiring[key] then
    redis.call('HDEL', sizes, key)
    redis.call('ZREM', expiries, key)
  end
  if left < 0 then
    redis.call('DEL', name)
  elseif left == 0 then
    redis.call('SET', name, value)
  else
    local ends = whole(now + left)
    redis.call('SET', name, value, 'PXAT', ends)
    redis.call('HSET', sizes, key, #key + #value)
    redis.call('ZADD', expiries, ends, key)
  end
end
note(after)
if holder then redis.call('DEL', lock) end
return {'done', after}
""")
"""Apply all writes of an invocation, or none, and give its lock back; or only weigh them."""
