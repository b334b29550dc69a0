#!/bin/bash
# storm.sh BANCTL NAME DIRECTORY KIND LOG [WRAPPER..]: changes bans on the disk that is mounted at DIRECTORY, without end. It
# prints each change when it begins, and again, with the length of the disk's LOG, when banctl has acknowledged it. KIND
# bans makes bans and unbans alone; all adds ranges, setup, moves between list and directory, and a fleet whose engine
# never answers. DIRECTORY.conf configures the Apache that the moves need.
banctl=$1 name=$2 at=$3 kind=$4 log=$5
wrapper=("${@:6}")
options=("--config=$at.json" "--banlist=$at/apache/banlist.conf")
bandir=--bandir=$at/apache/bans
apache=("--apachectl=apache2 -f $at.conf" --reload-interval=0)
# With a fleet, an unban of a ban that is younger than two seconds waits.
earlier_by=8

# change WHAT COMMAND..: WHAT is one of + ADDRESS, - ADDRESS, migrate TO, ranges RANGE, setup NUMBER.
change() {
  echo "TRY 0 $1"
  if "${@:2}" >"$at.said" 2>&1; then echo "ACK $(stat -c %s "$log") $1"; else echo "FAIL 0 $1: $(tail -n 1 "$at.said")"; fi
}
address() { echo "10.$(($1 / 62500)).$(($1 / 250 % 250)).$(($1 % 250 + 1))"; }

fleet=()
[ "$kind" != all ] || fleet=(--fleet=redis://127.0.0.1:1 "--fleet-state=$at/fleet")
for ((n = 1; ; n++)); do
  directory=()
  [ $((n % 2)) = 0 ] || directory=("$bandir")
  change "+ $(address $n)" "${wrapper[@]}" "$banctl" ban "$(address $n)" --reason "$name $n" --no-reload "${options[@]}" "${directory[@]}"
  [ $((n % 4)) != 3 ] || [ $n -le $earlier_by ] ||
    change "- $(address $((n - earlier_by)))" "${wrapper[@]}" "$banctl" unban "$(address $((n - earlier_by)))" --no-reload --no-fail2ban "${options[@]}" "$bandir" "${fleet[@]}"
  [ "$kind" != all ] || case $((n % 12)) in
    4) change 'migrate bandir' "$banctl" migrate --to bandir "${options[@]}" "$bandir" "${apache[@]}" ;;
    8) change 'migrate banlist' "$banctl" migrate --to banlist "${options[@]}" "$bandir" "${apache[@]}" ;;
    10)
      range=11.$((n / 250)).$((n % 250)).0/24
      printf '{"prefixes":[{"ip_prefix":"%s","service":"CLOUDFRONT_ORIGIN_FACING"}],"ipv6_prefixes":[]}' $range >"$at.ranges"
      change "ranges $range" "$banctl" ranges "$at.ranges" --output "$at/ranges.conf" --force --no-reload "${options[@]}"
      ;;
    11)
      mkdir -p "$at/setup/$n/etc/apache2/conf-available" "$at/setup/$n/etc/fail2ban/action.d"
      sync -f "$at"
      change "setup $n" "$banctl" setup --root "$at/setup/$n"
      ;;
  esac
done
