#!/bin/sh
# Starts Redis with the users of users.acl, or of another file in this folder that
# ORGCAST_REDIS_USERS names: state.acl is for the server of --redis-state. Redis cannot read passwords
# from its environment, so this writes their hashes into a copy of the file. The passwords themselves
# are never written.
# Usage: start.sh [REDIS-SERVER-OPTION...]
set -eu

here=$(dirname "$0")
users=$here/${ORGCAST_REDIS_USERS:-users.acl}
acl=${ORGCAST_ACL_FILE:-/tmp/users.acl}

hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

edit=
has() { grep -q "@$1_HASH@" "$users"; } # only users in the file need a password
if has GATEWAY; then edit="$edit;s/@GATEWAY_HASH@/$(hash "${ORGCAST_GATEWAY_PASSWORD:?}")/"; fi
if has BACKEND; then edit="$edit;s/@BACKEND_HASH@/$(hash "${ORGCAST_BACKEND_PASSWORD:?}")/"; fi
if has WEBAPP; then edit="$edit;s/@WEBAPP_HASH@/$(hash "${ORGCAST_WEBAPP_PASSWORD:?}")/"; fi
if has WORKER; then edit="$edit;s/@WORKER_HASH@/$(hash "${ORGCAST_WORKER_PASSWORD:?}")/"; fi

umask 077
sed -e "${edit#;}" "$users" >"$acl"
unset ORGCAST_GATEWAY_PASSWORD ORGCAST_BACKEND_PASSWORD ORGCAST_WEBAPP_PASSWORD ORGCAST_WORKER_PASSWORD

exec redis-server "$here/redis.conf" --aclfile "$acl" "$@"
