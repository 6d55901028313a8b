"""Whom an Envoy trusts and whose certificate it shows, by what it tells of its secrets. Private keys are not told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from isthmus.drift.finding import Drift, Kind
from isthmus.drift.seen import Trust, Wanted
from isthmus.envoy_api import unpack
from isthmus.xds.secret import ALL_ROOTS, ROOT_CA, SVID, federated_roots_name

Roots = frozenset[str]
"""Certificates, by their SHA-256."""


def secrets(wanted: Wanted, part: Any) -> Iterator[Drift]:
    """``part``: an envoy.admin.v3.SecretsConfigDump. Credentials of gateways are their Secrets' business."""
    for one in part.static_secrets:
        yield Drift(wanted.proxy, Kind.SECRET, one.name, "is in the bootstrap, and was not declared")
    for one in part.dynamic_active_secrets:
        told = _secret(wanted, unpack(one.secret))
        if told is not None:
            yield Drift(wanted.proxy, Kind.SECRET, one.name, told)


def _secret(wanted: Wanted, secret: Any) -> str | None:
    own = wanted.trust[0] if wanted.trust else None
    if own is None:
        return None
    if secret.name == SVID:
        return _svid(wanted, own, secret.tls_certificate.certificate_chain.inline_bytes)
    if secret.name == ROOT_CA:
        return _roots(own, secret.validation_context.trusted_ca.inline_bytes)
    if secret.name == ALL_ROOTS:
        return _all(wanted.trust, secret.validation_context.custom_validator_config.typed_config)
    for trust in wanted.trust:
        if secret.name == federated_roots_name(trust.trust_domain):
            return _roots(trust, secret.validation_context.trusted_ca.inline_bytes)
    return None


def _svid(wanted: Wanted, own: Trust, chain: bytes) -> str | None:
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        names = certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound):
        return "is not an X.509-SVID"
    if uris != [wanted.identity]:
        return f"{wanted.identity} → {', '.join(uris)[:300]}"
    roots = [x509.load_pem_x509_certificate(root.encode()) for root in own.roots]
    if not any(_issued(certificates[-1], root) for root in roots):
        return f"is not by the authority of {own.trust_domain}"
    return None


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return certificate == root
    return True


def _roots(trust: Trust, pem: bytes) -> str | None:
    return _unlike(trust.trust_domain, _hashes("".join(trust.roots).encode()), _hashes(pem))


def _all(wanted: tuple[Trust, ...], packed: Any) -> str | None:
    declared = {name: trust for trust in wanted for name in (trust.trust_domain, *trust.aliases)}
    if not packed.type_url:
        return "validates by other means than the SPIFFE validator"
    config: Any = unpack(packed)
    runs = {one.name: _hashes(one.trust_bundle.inline_bytes) for one in config.trust_domains}
    strange = sorted(runs.keys() - declared.keys())
    if strange:
        return f"trusts {', '.join(strange)}, which nobody federated with"
    told = (_unlike(name, _hashes("".join(trust.roots).encode()), runs.get(name)) for name, trust in declared.items())
    return next((one for one in told if one is not None), None)


def _unlike(trust_domain: str, declared: Roots, runs: Roots | None) -> str | None:
    if runs == declared:
        return None
    if runs is None:
        return f"does not trust {trust_domain}"
    extra, missing = (", ".join(one[:16] for one in sorted(some)) for some in (runs - declared, declared - runs))
    parts = [f"trusts {extra}, which is no root of {trust_domain}"] if extra else []
    parts += [f"does not trust the root {missing} of {trust_domain}"] if missing else []
    return "; ".join(parts)


def _hashes(pem: bytes) -> Roots:
    try:
        return frozenset(one.fingerprint(hashes.SHA256()).hex() for one in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return frozenset()
