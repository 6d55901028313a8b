#!/bin/sh
# A CA for clients, two of its clients, one that it has revoked, and one of somebody else's: NAME.pem is certificate and key.
# The CA and its list of revoked certificates go to clients.yaml, as the Secret that the gateway goes by.
set -eu
umask 077
pki=$(mktemp -d)
trap 'rm -r "$pki"' EXIT

authority() { # NAME
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$pki/$1.key" -out "$pki/$1.crt" 2>/dev/null
}

client() { # AUTHORITY NAME SAN
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$pki/$2.key" \
        -out "$pki/$2.csr" 2>/dev/null
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nsubjectAltName=%s\n' \
        "$3" >"$pki/$2.ext"
    openssl x509 -req -in "$pki/$2.csr" -CA "$pki/$1.crt" -CAkey "$pki/$1.key" -CAcreateserial -days 7 \
        -extfile "$pki/$2.ext" -out "$pki/$2.crt" 2>/dev/null
    cat "$pki/$2.crt" "$pki/$2.key" >"$2.pem"
}

authority partners
authority strangers
client partners billing DNS:billing.internal.corp
client partners elsewhere DNS:billing.example.com
client partners revoked DNS:revoked.internal.corp
client strangers outsider DNS:billing.internal.corp

printf '[ca]\ndefault_ca=partners\n[partners]\ndatabase=%s/index\ndefault_md=sha256\ndefault_crl_days=30\n' "$pki" >"$pki/ca.conf"
: >"$pki/index"
openssl ca -config "$pki/ca.conf" -keyfile "$pki/partners.key" -cert "$pki/partners.crt" -revoke "$pki/revoked.crt" 2>/dev/null
openssl ca -config "$pki/ca.conf" -keyfile "$pki/partners.key" -cert "$pki/partners.crt" -gencrl -out "$pki/crl.pem" 2>/dev/null

{
    printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: clients, namespace: edge}\nstringData:\n'
    printf '  ca.crt: |\n'
    sed 's/^/    /' "$pki/partners.crt"
    printf '  ca.crl: |\n'
    sed 's/^/    /' "$pki/crl.pem"
} >clients.yaml
