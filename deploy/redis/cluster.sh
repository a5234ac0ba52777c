#!/bin/sh
# Starts redis-N of a Cluster of six: 1 to 3 are masters at first, 4 to 6 their replicas. At each start
# it tells the others where it is, because containers may get other addresses.
# Usage: cluster.sh N
set -eu

here=$(cd "$(dirname "$0")" && pwd)
n=$1
joined=/data/joined # there once this member has its slots or its master

cli() { REDISCLI_AUTH=$ORGCAST_REPLICATION_PASSWORD timeout 5 redis-cli --user replication --no-auth-warning "$@"; }
ok() { [ "$(cli "$@")" = OK ]; }

join() {
  until [ "$(cli ping)" = PONG ]; do sleep 0.2; done
  if [ ! -e "$joined" ]; then
    ok cluster set-config-epoch "$n" || true # refused if it has met others already
    case $n in
    1) ok cluster addslotsrange 0 5460 ;;
    2) ok cluster addslotsrange 5461 10922 ;;
    3) ok cluster addslotsrange 10923 16383 ;;
    esac || true # refused if it has them already
  fi
  for other in 1 2 3 4 5 6; do
    [ "$other" != "$n" ] || continue
    until address=$(getent hosts "redis-$other") && ok cluster meet "${address%% *}" 6379; do sleep 0.5; done
  done
  if [ ! -e "$joined" ] && [ "$n" -gt 3 ]; then
    until master=$(cli -h "redis-$((n - 3))" cluster myid) && ok cluster replicate "$master"; do sleep 0.5; done
  fi
  touch "$joined"
}
join >/dev/null 2>&1 &

exec "$here/replicated.sh" --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 5000 --cluster-require-full-coverage no
