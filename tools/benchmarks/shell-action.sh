#!/bin/sh
# What banctl replaces, without its mistakes in syntax: a ban or an unban by grep, echo and sed, and a reload for each.
# shell-action.sh ban|unban LIST ADDRESS [RELOAD COMMAND..]
set -eu
verb=$1 list=$2 line="Require not ip $3"
shift 3
case $verb in
  ban) grep -qxF "$line" "$list" || echo "$line" >>"$list" ;;
  unban) sed -i "\|^$(echo "$line" | sed 's/[.|/]/\\&/g')\$|d" "$list" ;;
esac
[ $# -eq 0 ] || "$@"
