#!/bin/sh
# Starts a Sentinel that watches the master "orgcast", at first redis-1, with the users of sentinel.acl.
# What it learns is in a file next to its data, which it rewrites. The file has the password of the user
# sentinel, because it logs in to the servers and to the other Sentinels.
# Usage: sentinel.sh OWN-HOST-NAME
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
conf=/data/sentinel.conf

if [ ! -e "$conf" ]; then
  until getent hosts redis-1 >/dev/null; do sleep 0.5; done # it refuses to start with a name that does not resolve
  cat >"$conf" <<CONF
port 26379
dir /data
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $1
sentinel monitor orgcast redis-1 6379 2
sentinel down-after-milliseconds orgcast 3000
sentinel failover-timeout orgcast 15000
sentinel auth-user orgcast sentinel
sentinel sentinel-user sentinel
CONF
fi
sed -i '/^sentinel auth-pass /d; /^sentinel sentinel-pass /d' "$conf"
cat >>"$conf" <<CONF
sentinel auth-pass orgcast ${ORGCAST_SENTINEL_PASSWORD:?}
sentinel sentinel-pass $ORGCAST_SENTINEL_PASSWORD
CONF

# The name of a container that has stopped does not resolve. A Sentinel that waits for the answer for more
# than two seconds believes that its clock is wrong, and replaces no master for half a minute.
export RES_OPTIONS="timeout:1 attempts:1"

ORGCAST_REDIS_CONF=$conf ORGCAST_REDIS_USERS=sentinel.acl exec "$here/start.sh" --sentinel
