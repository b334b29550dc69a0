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
