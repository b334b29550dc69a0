# shellcheck shell=sh disable=SC2154
# A server without bans gets the ban directory, by the same rules as with `banctl setup`. One with a list keeps it.
if [ ! -e /etc/banctl.json ]; then
  setup=$(banctl setup --dry-run --no-fail2ban 2>/dev/null) || setup=
  case $setup in
    *'/etc/banctl.json would be written'*)
      # The same text as in /usr/share/banctl/banctl.json, by which the package knows it again.
      printf '{\n  "bandir": "%s"\n}\n' "$bans" >/etc/banctl.json
      chmod 644 /etc/banctl.json
      echo "banctl: new bans go into the directory $bans, without reloads; rm /etc/banctl.json keeps to the list"
      ;;
  esac
  printf '%s\n' "$setup" | sed -n 's/^ *list-in-use: /banctl: /p'
fi
