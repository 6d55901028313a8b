"""A certificate authority that somebody else gives: Istio's ``cacerts`` and ``istio-ca-secret``, cert-manager's files.

Source: Istio, "Plug in CA Certificates" and security/pkg/pki/ca; Kubernetes' kubernetes.io/tls Secrets, which
cert-manager writes and istiod takes as ``cacerts`` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from cryptography import x509

from isthmus.errors import Refused, StateUnusable
from isthmus.identity.authority import Authority
from isthmus.identity.material import (
    check_authority,
    check_chain,
    check_dates,
    is_key_of,
    issued_by,
    read_certificates,
    read_key,
)
from isthmus.identity.spiffe_id import check_trust_domain

ISTIO = ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem")
CERT_MANAGER = ("tls.crt", "tls.key", "ca.crt")
FILES = (*ISTIO, *CERT_MANAGER)
SECRETS = ("cacerts", "istio-ca-secret")
"""Secrets of the root namespace, the first that is there; as istiod looks for them."""


@dataclass(frozen=True, slots=True)
class Given:
    """``where``: a folder, or a Secret's name; ``files``: those of :data:`FILES` that are there."""

    where: str
    files: Mapping[str, bytes] = field(repr=False)


def read_given(given: Given, trust_domain: str, now: datetime, root_namespace: str = "istio-system") -> Authority:
    """The authority that these files are.

    Every certificate of the roots' file is trusted; the one that the chain leads to signs. Without a file of roots the
    signing certificate is its own root. Raises Refused, with the file and what is wrong with it; SpiffeIdInvalid:
    ``trust_domain`` is no trust domain's name.
    """
    check_trust_domain(trust_domain)
    try:
        return _read(given, trust_domain, now, root_namespace)
    except StateUnusable as wrong:
        # The state has no part in it.
        raise Refused(str(wrong)) from wrong


def _read(given: Given, trust_domain: str, now: datetime, root_namespace: str) -> Authority:
    names = CERT_MANAGER if "tls.crt" in given.files else ISTIO
    certificate, key_file = names[0], names[1]
    for name in (certificate, key_file):
        if name not in given.files:
            raise StateUnusable(f"{given.where}: no {name} (wanted: {', '.join(ISTIO)}, or {', '.join(CERT_MANAGER)})")
    key = read_key(_at(given, key_file), given.files[key_file])
    shown = _certificates(given, certificate)
    chain_file = "cert-chain.pem" if names is ISTIO and "cert-chain.pem" in given.files else certificate
    chain = _certificates(given, chain_file)
    roots = _roots(given, names[2], shown)
    if not is_key_of(key, chain[0]):
        later = any(is_key_of(key, one) for one in chain[1:])
        wrong = "the wrong order: the certificate of the key comes first, then its issuer" if later else ""
        raise StateUnusable(
            f"{_at(given, chain_file)}: {wrong}" if wrong else f"{_at(given, key_file)}: not the key of {chain_file}"
        )
    if chain[0] != shown[0]:
        raise StateUnusable(f"{_at(given, chain_file)}: begins with another certificate than {certificate}")
    signing = tuple(one for one in chain if one not in roots) or (roots[0],)
    for file, ones in ((chain_file, signing), (names[2], roots)):
        for one in ones:
            check_authority(_at(given, file), one, trust_domain)
            check_dates(_at(given, file), one, now)
    root = _root_of(given, chain_file, signing, roots)
    if signing != (root,):
        check_chain(_at(given, chain_file), signing, root, names[2])
    others = tuple(one for one in roots if one != root)
    return Authority(trust_domain, root, signing, key, root_namespace, others)


def _at(given: Given, file: str) -> str:
    return f"{given.where}/{file}"


def _certificates(given: Given, file: str) -> tuple[x509.Certificate, ...]:
    return read_certificates(_at(given, file), given.files[file])


def _roots(given: Given, file: str, shown: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...]:
    """All that are to be trusted. Two of one name would be told apart by luck."""
    if file not in given.files:
        if not issued_by(shown[-1], shown[-1]):
            raise StateUnusable(f"{given.where}: no {file}, and the last certificate is not its own root")
        return (shown[-1],)
    roots = tuple(dict.fromkeys(_certificates(given, file)))
    names = [root.subject for root in roots]
    for root in roots:
        if names.count(root.subject) > 1:
            raise StateUnusable(
                f"{_at(given, file)}: two roots of the name {root.subject.rfc4514_string()!r}: verifiers that look "
                "issuers up by name take whichever comes first"
            )
    return roots


def _root_of(
    given: Given, chain_file: str, signing: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...]
) -> x509.Certificate:
    for below, above in pairwise(signing):
        if not issued_by(below, above):
            raise StateUnusable(f"{_at(given, chain_file)}: the wrong order: each certificate is issued by the next")
    for root in roots:
        if signing[-1] == root or issued_by(signing[-1], root):
            return root
    raise Refused(f"{_at(given, chain_file)}: no root that is given with it signed it")
