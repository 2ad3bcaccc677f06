#!/usr/bin/env bash
# Development certificates: one authority, and under it the gate's own, one agent's and one backend's.
#
#   certs/dev.sh [--force] [DIRECTORY]     DIRECTORY: certs/dev beside this script, unless given
#   --force                                replace what is there, the authority too
#
# They are for one machine and some weeks. Keys are made on it, are read by their owner alone, and stay: git ignores the
# directory, and a test refuses a committed key.
set -euo pipefail
umask 077

days=30
names="ca server agent backend"

force=no
directory=
for argument in "$@"; do
  case "$argument" in
    --force) force=yes ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "certs/dev.sh: $argument is no option; --force is" >&2; exit 2 ;;
    *)
      if [ -n "$directory" ]; then echo "certs/dev.sh: one directory is enough" >&2; exit 2; fi
      directory=$argument
      ;;
  esac
done
directory=${directory:-$(dirname "${BASH_SOURCE[0]}")/dev}

if ! command -v openssl >/dev/null; then
  echo "certs/dev.sh: openssl is not installed" >&2
  exit 69
fi
for name in $names; do
  for file in "$directory/$name.pem" "$directory/$name.key"; do
    if [ "$force" = no ] && [ -e "$file" ]; then
      echo "certs/dev.sh: $file is there already; --force replaces everything in $directory" >&2
      exit 1
    fi
  done
done
mkdir -p "$directory"
cd "$directory"

# Made aside, and moved only when all are done: who reads the files meanwhile never finds a key without its certificate's
# authority, and a failure leaves what was there.
work=$(mktemp -d .making.XXXXXX)
trap 'rm -rf "$work"' EXIT

# quietly COMMAND...: what openssl says is shown only if it fails.
quietly() {
  local said
  if ! said=$("$@" 2>&1); then
    printf '%s\n' "$said" >&2
    return 1
  fi
}

authority() {
  quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days "$days" \
    -subj "/CN=toolgate development CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout "$work/ca.key" -out "$work/ca.pem"
}

# issue NAME EXTENDED_KEY_USAGE SUBJECT_ALT_NAME
issue() {
  local at="$work/$1"
  quietly openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 \
    -subj "/CN=toolgate development $1" -keyout "$at.key" -out "$at.csr"
  printf '%s\n' \
    "basicConstraints=critical,CA:FALSE" \
    "keyUsage=critical,digitalSignature" \
    "extendedKeyUsage=$2" \
    "subjectAltName=$3" >"$at.ext"
  quietly openssl x509 -req -sha256 -days "$days" -in "$at.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" \
    -set_serial "0x$(openssl rand -hex 16)" -extfile "$at.ext" -out "$at.pem"
  quietly openssl verify -CAfile "$work/ca.pem" "$at.pem"
}

authority
issue server serverAuth "DNS:localhost,IP:127.0.0.1,IP:::1"
issue agent clientAuth "URI:spiffe://development/agent"
issue backend serverAuth "DNS:localhost,DNS:backend,IP:127.0.0.1,IP:::1"
chmod 600 "$work"/*.key
chmod 644 "$work"/*.pem
for name in $names; do
  mv "$work/$name.key" "$work/$name.pem" .
done

cat <<END
made in $PWD, for $days days:
  ca.pem       the authority; --cacert of clients, client_ca of listeners, ca of upstreams
  server.pem   the gate's listeners, as localhost, 127.0.0.1 and ::1; server.key
  agent.pem    an agent that shows a certificate; agent.key
  backend.pem  a backend, as localhost, backend, 127.0.0.1 and ::1; backend.key
END
