# shellcheck shell=sh disable=SC2154
# Creates the log of failed logins with the distribution's owner and mode for Apache's logs: without the log, fail2ban does
# not start with the jail on.
if [ -d "${log%/*}" ] && [ ! -e "$log" ]; then
  (umask 077 && : >"$log")
  chown "root:$group" "$log" || :
  chmod "$mode" "$log"
fi
# A jail that an earlier version had switched on reads this log now: without the snippet it would count nothing.
jails=/etc/fail2ban/jail.d
if [ -e "$jails/djangoapp-admin-login.local" ] && [ ! -e "$snippets/djangoapp-login-log.conf" ] &&
  ! grep -qs '^logpath' "$jails/djangoapp-admin-login.local" "$jails/djangoapp-own.local"; then
  echo "banctl: the jail djangoapp-admin-login reads ${log##*/}, which Apache does not write yet; enable its snippet djangoapp-login-log, then reload Apache"
fi
