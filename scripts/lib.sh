# Shared by scripts/demo and scripts/test: a Python that fits, and a venv that holds exactly what a lock file pins.

# What fetches packages trusts the certificates of this system, also with an empty environment.
atlas_certificates() {
  local bundle
  for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    if [ -r "$bundle" ]; then
      export PIP_CERT="${PIP_CERT:-$bundle}" npm_config_cafile="${npm_config_cafile:-$bundle}"
      break
    fi
  done
  export DENO_TLS_CA_STORE="${DENO_TLS_CA_STORE:-system,mozilla}"
}

atlas_python() {
  local name
  for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    [ -n "$name" ] || continue
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
  echo "atlas: no Python 3.11 or newer with venv was found: install one, or set PYTHON" >&2
  return 2
}

# Runs a command with a line that counts the seconds on a terminal; its output is shown only when it fails.
atlas_quietly() {
  local head=$1 log began=$SECONDS pid code=0
  shift
  log=$(mktemp)
  # a process group of its own, so that an interrupt ends pip as well and not only the shell around it
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  set +m
  trap 'kill -- -$pid 2>/dev/null; wait $pid 2>/dev/null; rm -f "$log"; exit 130' INT TERM HUP
  while kill -0 "$pid" 2>/dev/null; do
    if [ -t 2 ]; then printf '\r%s … %d s' "$head" $((SECONDS - began)) >&2; fi
    sleep 0.2
  done
  wait "$pid" || code=$?
  trap - INT TERM HUP
  if [ -t 2 ]; then printf '\r' >&2; fi
  printf '%s … %d s\n' "$head" $((SECONDS - began)) >&2
  if [ "$code" -ne 0 ]; then tail -n 30 "$log" >&2; fi
  rm -f "$log"
  return "$code"
}

atlas_install() {
  local python=$1 lock=$2
  if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
    rm -rf .venv
    "$python" -m venv .venv
  fi
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
  .venv/bin/python -m pip install --require-hashes -r "$lock"
  .venv/bin/python -m pip install --no-deps --no-build-isolation -e .
}

# atlas_venv HEAD LOCK: nothing to do when exactly this lock is installed already.
atlas_venv() {
  local head=$1 lock=$2 python want
  want=$(cat pyproject.toml "$lock" | cksum)
  if [ "$(cat ".venv/.$lock.installed" 2>/dev/null)" = "$want" ] && .venv/bin/python -c 'import atlas' 2>/dev/null; then
    printf '%s … 0 s\n' "$head" >&2
    return
  fi
  python=$(atlas_python)
  atlas_quietly "$head" atlas_install "$python" "$lock"
  printf '%s\n' "$want" >".venv/.$lock.installed"
}

# Debian's packages unpacked into FOLDER/root; nothing is installed. Ends with 3, and says why, where they cannot be had.
atlas_debian() {
  local folder=$1
  shift
  mkdir -p "$folder"
  (
    cd "$folder"
    # tests of several processes ask at once
    if command -v flock >/dev/null; then
      exec 9>.lock
      flock 9
    fi
    [ ! -e .done ] || exit 0
    { apt-get download "$@" || { apt-get update && apt-get download "$@"; }; } >/dev/null 2>&1 || {
      echo "this system's packages have no $*" >&2
      exit 3
    }
    for package in *.deb; do dpkg -x "$package" root; done
    rm -rf root/usr/share/doc ./*.deb
    chmod -R a+rX root
    touch .done
  )
}
