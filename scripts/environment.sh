# Sourced by the other scripts: makes what they need, or says in one sentence what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Many processes start here: each would compile everything anew.
unset PYTHONDONTWRITEBYTECODE

stop() {
  echo "error: $*" >&2
  exit 1
}

# system COMMAND PACKAGE: have the command, by apt-get where we may.
system() {
  command -v "$1" >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || stop "$1 is missing; install the package $2."
  echo "Installing $2 …"
  if [ -z "${apt_updated:-}" ]; then
    apt-get update -qq
    apt_updated=yes
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null ||
    stop "$2 could not be installed."
}

# venv LOCK …: have .venv with what one of these lock files says; make it from the first.
venv() {
  local lock
  for lock in "$@"; do
    [ -x .venv/bin/python ] && [ "$(cat ".venv/.$lock" 2>/dev/null)" = "$(sha256sum <"$lock")" ] && return
  done
  lock=$1
  system python3 python3
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || stop "Python 3.11 or newer is needed."
  if [ ! -x .venv/bin/pip ]; then
    python3 -c 'import ensurepip' 2>/dev/null || system no-ensurepip python3-venv
    rm -rf .venv
    python3 -m venv .venv
  fi
  echo "Installing the packages of $lock …"
  # One package comes as source only; it is built with the backend that we locked.
  .venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-build.lock
  # The lock is the whole tree; pip itself would look for a hash of what one package wants with an extra.
  .venv/bin/pip install -q --disable-pip-version-check --require-hashes --no-deps --no-build-isolation -r "$lock"
  sha256sum <"$lock" >".venv/.$lock"
}

# node_tools: have Node 22 and the programs of tests/npm.
node_tools() {
  local stamp=tests/npm/node_modules/.lock
  [ "$(cat $stamp 2>/dev/null)" = "$(sha256sum <tests/npm/package-lock.json)" ] && return
  system npm npm
  echo "Installing the packages of tests/npm …"
  (cd tests/npm && npm ci --loglevel=error >/dev/null) || stop "npm could not install the packages of tests/npm."
  sha256sum <tests/npm/package-lock.json >$stamp
}

# nginx_program: have nginx, which Debian keeps where not everybody's PATH leads.
nginx_program() {
  [ -x /usr/sbin/nginx ] || system nginx nginx-light
}

# postgresql_programs: have the programs of a PostgreSQL server. Debian keeps them out of the PATH.
postgresql_programs() {
  [ -n "$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null)" ] || system pg_ctl postgresql
}

# postgresql FOLDER: start a private PostgreSQL that listens on a socket in that folder only.
postgresql() {
  as=()
  postgresql_programs
  bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
  [ -n "$bin" ] || bin=$(dirname "$(command -v pg_ctl)")
  if [ "$(id -u)" = 0 ]; then
    as=(runuser -u postgres --)
    chown postgres "$1"
  fi
  (
    cd "$1"
    "${as[@]}" "$bin/initdb" -D "$1/data" -U postgres --auth=trust -E UTF8 --locale=C --no-sync >/dev/null
    "${as[@]}" "$bin/pg_ctl" -D "$1/data" -l "$1/log" -w -s start \
      -o "-c listen_addresses= -c unix_socket_directories=$1 -c fsync=off -c synchronous_commit=off"
  )
}

# stop_postgresql FOLDER: stop what postgresql started there.
stop_postgresql() {
  [ ! -e "$1/data/postmaster.pid" ] || (cd "$1" && "${as[@]}" "$bin/pg_ctl" -D "$1/data" -m immediate -s stop)
}
