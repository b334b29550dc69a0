# Shared by the commands in scripts/, which source it first: it stops them at the first error and enters the repository.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Apache and fail2ban are in /usr/sbin, which an ordinary user's PATH may lack.
PATH=$PATH:/usr/sbin:/sbin

step() { printf '\n== %s\n' "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# need COMMAND PACKAGE [COMMAND PACKAGE]..: installs each package whose command (or file, given by its path) is missing.
need() {
  local packages=() sudo=() package
  while [ $# -gt 0 ]; do
    case $1 in /*) [ -e "$1" ] ;; *) command -v "$1" >/dev/null ;; esac || packages+=("$2")
    shift 2
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  step "Installing ${packages[*]}"
  command -v apt-get >/dev/null || fail "cannot find apt-get: install ${packages[*]} yourself, then try again"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "run once as root: apt-get install ${packages[*]}"
    sudo=(sudo)
  fi
  # Debian starts installed services at once and at each boot, which the tests do not want. SYSTEMD_OFFLINE stops systemctl,
  # runlevel 1 stops init scripts, and update-rc.d then disables the services without masking them, so that
  # `systemctl enable --now apache2` still works. Packages that were installed before stay as they are.
  local apt=("${sudo[@]}" env SYSTEMD_OFFLINE=1 RUNLEVEL=1 PREVLEVEL=N DEBIAN_FRONTEND=noninteractive
    NEEDRESTART_SUSPEND=1 apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
  quietly "${apt[@]}" update || true
  quietly "${apt[@]}" install --yes --no-install-recommends "${packages[@]}" ||
    fail "could not install ${packages[*]}: see above"
  for package in "${packages[@]}"; do
    [ ! -e "/etc/init.d/$package" ] || quietly "${sudo[@]}" update-rc.d "$package" disable
  done
}

# quietly COMMAND..: prints the command's output only if it fails.
quietly() {
  local output
  output=$("$@" 2>&1 </dev/null) && return
  local status=$?
  printf '%s\n' "$output" >&2
  return "$status"
}

# npm_ci DIRECTORY OPTION..: installs the packages of DIRECTORY's package-lock.json. It uses the system's Node, because npm
# removes the Node in node_modules, which `npm run` would find first. npm's --prefix would read another system-wide npmrc.
npm_ci() {
  local commands=$PWD/node_modules/.bin directory=$1
  shift
  (cd "$directory" && PATH=${PATH//"$commands:"/} npm ci --loglevel=error --no-progress --no-update-notifier "$@" </dev/null)
}

# Installs the npm packages as locked, and puts their commands first in PATH: `node` is Node 24 from here on.
packages() {
  local commands=$PWD/node_modules/.bin
  if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    [ "$(uname -sm)" = 'Linux x86_64' ] || fail 'banctl is built on x86-64 Linux'
    command -v npm >/dev/null || fail 'cannot find npm: install Node 20 or newer and npm, then try again'
    step 'Installing the npm packages'
    npm_ci .
  fi
  case $PATH in "$commands:"*) ;; *) export PATH=$commands:$PATH ;; esac
}

# Builds dist/banctl if something in it, or what makes it, has changed since: each build has another code cache.
build_if_changed() {
  local makers=(scripts/build tools/bundle.ts tools/code-cache.ts tools/align-caches.ts package-lock.json)
  local kit=(action.d filter.d jail.d apache2 cron.d systemd)
  if [ ! -e dist/banctl ] || [ -n "$(find src "${makers[@]}" "${kit[@]}" -newer dist/banctl -print -quit)" ]; then
    scripts/build
  fi
}

# Writes dist/SHA256SUMS for `sha256sum --check`; its comments give the sizes in bytes.
checksums() {
  (
    cd dist
    shopt -s nullglob
    files=(banctl *.deb *.rpm *.cdx.json bundle/*.cjs)
    [ ! -e banctl-arm64 ] || files+=(banctl-arm64)
    { stat -c '# %s  %n' "${files[@]}" && sha256sum "${files[@]}"; } >.SHA256SUMS
    mv .SHA256SUMS SHA256SUMS
  )
}

# Writes the other files of a release: the bill of materials, the notes and the sums.
release_files() {
  step 'Writing the bill of materials, the notes and the sums'
  node tools/sbom.ts dist/banctl dist/libraries.json >dist/sbom.cdx.json
  node tools/release-notes.ts >dist/RELEASE_NOTES.md
  checksums
}
