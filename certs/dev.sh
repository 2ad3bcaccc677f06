#!/usr/bin/env bash
# Development certificates: one CA, and under it the gate's own, one agent's and one backend's.
# Keys stay on this machine: *.pem and *.key are ignored by git, and a test refuses a committed one.
#
#   certs/dev.sh [DIRECTORY]     default: the directory of this script
#
# Run again, it replaces everything, the CA too.
set -euo pipefail
umask 077

cd "${1:-$(dirname "${BASH_SOURCE[0]}")}"
days=30

authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days "$days" \
    -subj "/CN=toolgate development CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.pem 2>/dev/null
}

# issue NAME EXTENDED_KEY_USAGE SUBJECT_ALT_NAME
issue() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 \
    -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -sha256 -days "$days" -in "$1.csr" -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" \
    -extfile <(printf '%s\n' \
      "basicConstraints=critical,CA:FALSE" \
      "keyUsage=critical,digitalSignature" \
      "extendedKeyUsage=$2" \
      "subjectAltName=$3") \
    -out "$1.pem" 2>/dev/null
  rm "$1.csr"
  openssl verify -CAfile ca.pem "$1.pem" >/dev/null
}

authority
issue gate serverAuth "DNS:localhost,IP:127.0.0.1,IP:::1"
issue agent clientAuth "URI:spiffe://development/agent"
issue backend serverAuth "DNS:localhost,DNS:backend,IP:127.0.0.1,IP:::1"

echo "certificates for $days days in $PWD: ca, gate, agent, backend (.pem and .key)"
