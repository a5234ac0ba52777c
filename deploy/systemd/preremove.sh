#!/bin/sh
# Runs before the package is removed or upgraded.
set -eu

case "${1:-}" in
  remove | 0) [ ! -d /run/systemd/system ] || systemctl disable --now orgcast.service ;;
esac
