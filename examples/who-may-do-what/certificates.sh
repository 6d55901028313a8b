#!/bin/sh
# A CA for banks, a bank of it, and a thief who is another of its clients: NAME.pem is certificate and key. The CA goes
# to banks.yaml, as the Secret that the gateway goes by.
set -eu
umask 077
pki=$(mktemp -d)
trap 'rm -r "$pki"' EXIT

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=banks" \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
for name in bank thief; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$pki/$name.key" \
        -out "$pki/$name.csr" 2>/dev/null
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nsubjectAltName=DNS:%s.example.com\n' \
        "$name" >"$pki/$name.ext"
    openssl x509 -req -in "$pki/$name.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 7 \
        -extfile "$pki/$name.ext" -out "$pki/$name.crt" 2>/dev/null
    cat "$pki/$name.crt" "$pki/$name.key" >"$name.pem"
done

{
    printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: banks, namespace: shop}\nstringData:\n  ca.crt: |\n'
    sed 's/^/    /' "$pki/ca.crt"
} >banks.yaml
