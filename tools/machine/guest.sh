# What the scenarios' scripts in test/machine can call. They run in the machine, as root.
# shellcheck shell=bash disable=SC2034 # the scenarios use these
LIST=/etc/apache2/djangoapp/banlist.conf
JAIL=djangoapp-admin-login

# code ADDRESS [OPTION]..: what Apache answers a visitor from this address.
code() {
  ip netns exec visitors curl -s -o /dev/null -m 20 -w '%{http_code}' --interface "$1" "${@:2}" "${URL:-http://192.0.2.1/}"
}

# until_code ADDRESS CODE [SECONDS]: waits for that answer, prints the answer.
until_code() {
  local end=$((SECONDS + ${3:-30})) is=
  while [ $SECONDS -lt $end ]; do
    is=$(code "$1")
    [ "$is" != "$2" ] || break
    sleep 0.2
  done
  echo "$1 $is"
}

# within SECONDS COMMAND..: repeats the command until it succeeds.
within() {
  local end=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "not within $1 s: ${*:2}"; return 1; }
    sleep 0.2
  done
}

# Only with the list do bans need reloads: the package's configuration names the ban directory.
list_only() { echo '{}' >/etc/banctl.json; }

# An end of all bans, an interval that is over, Apache at rest.
fresh() {
  systemctl reset-failed apache2 2>/dev/null
  systemctl start apache2
  banctl flush --all >/dev/null 2>&1
  banctl reload >/dev/null 2>&1
  sleep 2.2
}

lines() { grep -c '^Require not ip' "$LIST"; }

# unit_options NAME LINE..: a drop-in for a service, in force at its next start.
unit_options() {
  mkdir -p "/etc/systemd/system/$1.service.d"
  { echo '[Service]' && printf '%s\n' "${@:2}"; } >"/etc/systemd/system/$1.service.d/scenario.conf"
  systemctl daemon-reload
}

# A stop of both `slow` and apache2 keeps the stop of Apache in systemd's queue for six seconds.
slow_stop() {
  printf '%s\n' '[Unit]' After=apache2.service '[Service]' Type=oneshot RemainAfterExit=yes ExecStart=/bin/true \
    'ExecStop=/bin/sleep 6' >/etc/systemd/system/slow.service
  systemctl daemon-reload
  systemctl start slow
}
