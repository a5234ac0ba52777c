#!/bin/sh
# Runs after the package was installed or upgraded.
set -eu

systemd-sysusers orgcast.conf
chgrp orgcast /etc/orgcast
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # An upgrade drains the old process and starts the new one; a first installation starts nothing.
  systemctl try-restart orgcast.service
fi
if [ -z "${2:-}" ] && [ "${1:-}" != 2 ]; then # the first installation, for dpkg and for rpm
  echo "orgcast: write your settings into /etc/orgcast/orgcast.yaml, then: systemctl enable --now orgcast"
fi
