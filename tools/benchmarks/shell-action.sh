#!/bin/sh
# The shell action that banctl replaces, with its syntax errors fixed: grep, echo and sed, and a reload for each change.
# shell-action.sh ban|unban LIST ADDRESS [RELOAD COMMAND..]
set -eu
verb=$1 list=$2 line="Require not ip $3"
shift 3
case $verb in
  ban) grep -qxF "$line" "$list" || echo "$line" >>"$list" ;;
  unban) sed -i "\|^$(echo "$line" | sed 's/[.|/]/\\&/g')\$|d" "$list" ;;
esac
[ $# -eq 0 ] || "$@"
