# What the scenarios' scripts in test/machine can call. They run in the machine, as root.
# shellcheck shell=bash disable=SC2034 # the scenarios use these
LIST=/etc/apache2/djangoapp/banlist.conf
JAIL=djangoapp-admin-login

# code ADDRESS [OPTION]..: what Apache answers a visitor from this address.
code() {
  ip netns exec visitors curl -s -o /dev/null -m 20 -w '%{http_code}' --interface "$1" "${@:2}" "${URL:-http://192.0.2.1/}"
}

# until_code ADDRESS CODE [SECONDS]: waits for that answer, prints the answer, and what banctl knows if it is another one.
until_code() {
  local end=$((SECONDS + ${3:-120})) is=
  while [ $SECONDS -lt $end ]; do
    is=$(code "$1")
    [ "$is" != "$2" ] || break
    sleep 0.2
  done
  echo "$1 $is"
  [ "$is" = "$2" ] || known "$1" 2>&1 | sed 's/^/  | /'
}

# known ADDRESS: all that may explain why Apache answers it as it does.
known() {
  banctl explain "$1"
  banctl list | tail -n 3
  fail2ban-client status "$JAIL"
  tail -n 12 /var/log/fail2ban.log
  journalctl -q -o cat -n 5 -t banctl
  pgrep -a -f 'reload --when-due'
}

# within SECONDS COMMAND..: repeats the command until it succeeds.
within() {
  local end=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "not within $1 s: ${*:2}"; return 1; }
    sleep 0.2
  done
}

# Waits until fail2ban's jail has started.
jail_runs() { within 180 fail2ban-client status "$JAIL"; }

restart_fail2ban() {
  systemctl restart fail2ban
  jail_runs
}

# fail2ban_bans ADDRESS.. and fail2ban_unbans ADDRESS..: as if the jail did it by itself.
fail2ban_bans() { fail2ban-client set "$JAIL" banip "$@" >/dev/null; }
fail2ban_unbans() { fail2ban-client set "$JAIL" unbanip "$@" >/dev/null; }

# Only with the list do bans need reloads: the package's configuration names the ban directory. No audit makes up for one.
list_only() {
  echo '{}' >/etc/banctl.json
  systemctl stop banctl-audit.timer
}

# An end of all bans, an interval that is over, Apache at rest.
fresh() {
  systemctl reset-failed apache2 2>/dev/null
  systemctl start apache2
  banctl flush --all >/dev/null 2>&1
  banctl reload >/dev/null 2>&1
  sleep 2.2
}

# audit SECONDS [OPTION]..: prints "clean" once the audit finds nothing, or what it still finds after that time.
audit() {
  local end=$((SECONDS + $1))
  until banctl audit "${@:2}" >/tmp/audit 2>&1; do
    [ $SECONDS -lt $end ] || { cat /tmp/audit; return; }
    sleep 0.5
  done
  echo clean
}

# Prints what a call has left beside the list: locks, temporary files.
leftovers() {
  find "${LIST%/*}" -mindepth 1 -maxdepth 1 ! -name banlist.conf ! -name banlist.conf.state ! -name bans -printf '%f\n'
}

no_leftovers() { [ -z "$(leftovers)" ]; }

lines() { grep -c '^Require not ip' "$LIST"; }

# unit_options NAME LINE..: a drop-in for a service, in force at its next start.
unit_options() {
  mkdir -p "/etc/systemd/system/$1.service.d"
  { echo '[Service]' && printf '%s\n' "${@:2}"; } >"/etc/systemd/system/$1.service.d/scenario.conf"
  systemctl daemon-reload
}

# Begins a stop of Apache that waits in systemd's queue until end_stop: `slow` must stop first.
begin_stop() {
  printf '%s\n' '[Unit]' After=apache2.service '[Service]' Type=oneshot RemainAfterExit=yes ExecStart=/bin/true \
    "ExecStop=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.2; done'" >/etc/systemd/system/slow.service
  rm -f /run/go
  systemctl daemon-reload
  systemctl start slow apache2
  (systemctl stop slow apache2 2>/dev/null; echo "stop $?" >/tmp/stop) &
  within 60 bash -c "systemctl list-jobs --no-legend | grep -q 'apache2.service.*stop'"
}

# Lets the stop go on, and prints its exit code.
end_stop() {
  touch /run/go
  wait
  cat /tmp/stop
}
