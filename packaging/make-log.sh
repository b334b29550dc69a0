# shellcheck shell=sh disable=SC2154
# The log of failed logins, as the distribution keeps Apache's logs: without it, fail2ban does not start with the jail on.
if [ -d "${log%/*}" ] && [ ! -e "$log" ]; then
  (umask 077 && : >"$log")
  chown "root:$group" "$log" || :
  chmod "$mode" "$log"
fi
