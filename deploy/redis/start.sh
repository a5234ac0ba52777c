#!/bin/sh
# Starts Redis with the users of users.acl, or of other files in this folder that ORGCAST_REDIS_USERS
# names, separated by spaces: state.acl is for the server of --redis-state, replication.acl adds the user
# of replicas, watched.acl the user of Sentinels, and sentinel.acl is for the Sentinels themselves. Redis
# cannot read passwords from its environment, so this writes their hashes into a copy of the files.
# Usage: start.sh [REDIS-SERVER-OPTION...]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
acl=${ORGCAST_ACL_FILE:-/tmp/users.acl}
conf=${ORGCAST_REDIS_CONF:-$here/redis.conf}

users() { for file in ${ORGCAST_REDIS_USERS:-users.acl}; do cat "$here/$file"; done; }
hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

edit=
for user in GATEWAY BACKEND WEBAPP WORKER REPLICATION SENTINEL; do
  if users | grep -q "@${user}_HASH@"; then # only users in the files need a password
    eval "password=\${ORGCAST_${user}_PASSWORD:?}"
    # shellcheck disable=SC2154 # eval sets it
    edit="$edit;s/@${user}_HASH@/$(hash "$password")/"
  fi
  unset "ORGCAST_${user}_PASSWORD"
done
unset password

umask 077
users | sed -e "${edit#;}" >"$acl"
exec redis-server "$conf" --aclfile "$acl" "$@"
