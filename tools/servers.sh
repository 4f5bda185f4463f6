#!/bin/sh
# Installs the servers that the tests run against, PostgreSQL and Redis or Valkey, where that is allowed: on Debian, as
# root. Elsewhere it says what is missing; the tests that need it are skipped then, and fail on CI.
set -u

find_postgres() { ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null || command -v initdb; }
find_redis() { command -v redis-server || command -v valkey-server; }

missing=""
[ -n "$(find_postgres)" ] || missing="postgresql"
[ -n "$(find_redis)" ] || missing="$missing redis-server"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "! not installed:$(printf ' %s' $missing); the tests against real servers need them (Debian's packages of these names)"
    exit 0
fi

echo "→ servers for the tests, from Debian's packages:$(printf ' %s' $missing)"
# Packages start their own servers unless a policy says no; the tests start theirs.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -3 "$log"
    echo "! they can't be installed; the tests against them can't run"
fi
rm -f "$log"
