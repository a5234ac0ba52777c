#!/bin/sh
# Starts Redis with the users of users.acl. Redis can't read passwords from its environment, so
# this puts their hashes into a copy of the file, which no password ever reaches.
# Usage: start.sh [REDIS-SERVER-OPTION...]
set -eu

here=$(dirname "$0")
: "${ORGCAST_GATEWAY_PASSWORD:?}" "${ORGCAST_BACKEND_PASSWORD:?}" "${ORGCAST_WEBAPP_PASSWORD:?}" "${ORGCAST_WORKER_PASSWORD:?}"
acl=${ORGCAST_ACL_FILE:-/tmp/users.acl}

hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

umask 077
sed -e "s/@GATEWAY_HASH@/$(hash "$ORGCAST_GATEWAY_PASSWORD")/" \
  -e "s/@BACKEND_HASH@/$(hash "$ORGCAST_BACKEND_PASSWORD")/" \
  -e "s/@WEBAPP_HASH@/$(hash "$ORGCAST_WEBAPP_PASSWORD")/" \
  -e "s/@WORKER_HASH@/$(hash "$ORGCAST_WORKER_PASSWORD")/" \
  "$here/users.acl" >"$acl"
unset ORGCAST_GATEWAY_PASSWORD ORGCAST_BACKEND_PASSWORD ORGCAST_WEBAPP_PASSWORD ORGCAST_WORKER_PASSWORD

exec redis-server "$here/redis.conf" --aclfile "$acl" "$@"
