#!/bin/sh
# Starts Redis like start.sh, as a server that has replicas or is one. ORGCAST_REPLICA_OF="HOST PORT"
# makes it a replica at its first start. Its settings are next to its data, in a file that Sentinel
# rewrites, so that it later begins as what it was. They have the password of the user replication,
# because a replica must send it.
# Usage: replicated.sh [REDIS-SERVER-OPTION...]
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
data=${ORGCAST_DATA:-/data}
conf=$data/redis.conf

of=${ORGCAST_REPLICA_OF:-}
if [ -e "$conf" ]; then of=$(sed -n 's/^replicaof //p' "$conf"); fi
{
  echo "include \"$here/redis.conf\""
  echo "dir \"$data\""
  echo "masteruser replication"
  echo "masterauth ${ORGCAST_REPLICATION_PASSWORD:?}"
  if [ -n "$of" ]; then echo "replicaof $of"; fi
} >"$conf.new"
mv "$conf.new" "$conf"

ORGCAST_REDIS_CONF=$conf ORGCAST_REDIS_USERS=${ORGCAST_REDIS_USERS:-users.acl replication.acl} exec "$here/start.sh" "$@"
