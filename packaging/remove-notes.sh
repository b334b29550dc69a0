# shellcheck shell=sh
# Removes banctl's state, and each unchanged file that `banctl setup` wrote beside the package. setup.json has the path of
# each such file on its own line, and below it the SHA-256 of each text that setup wrote there.
memory=/var/lib/banctl/setup.json
if [ -f "$memory" ]; then
  sed -n 's|^  "\(/.*\)": \[$|\1|p' "$memory" | while read -r path; do
    rm -f "$path.banctl-new~"
    [ -f "$path" ] || continue
    sum=$(sha256sum <"$path")
    ! grep -qF "\"${sum%% *}\"" "$memory" || rm -f "$path"
  done
fi
rm -rf /var/lib/banctl
# The logs of the kit's snippets go, unless a jail of the administrator's reads one: without it, fail2ban would not start.
for log in login networks requests; do
  grep -rqs --include='*.conf' --include='*.local' "djangoapp-$log\.log" /etc/fail2ban ||
    rm -f "/var/log/apache2/djangoapp-$log.log"* "/var/log/httpd/djangoapp-$log.log"*
done
