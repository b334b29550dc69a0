# shellcheck shell=sh disable=SC2154
# Creates the log of failed logins with the distribution's owner and mode for Apache's logs: without the log, fail2ban does
# not start with the jail on.
if [ -d "${log%/*}" ] && [ ! -e "$log" ]; then
  (umask 077 && : >"$log")
  chown "root:$group" "$log" || :
  chmod "$mode" "$log"
fi
