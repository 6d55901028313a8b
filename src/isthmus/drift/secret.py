"""Whom an Envoy trusts and whose certificate it shows, by what it tells of its secrets. Private keys are not told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from isthmus.drift.finding import Drift, Kind
from isthmus.drift.seen import Credential, Trust, Wanted
from isthmus.envoy_api import unpack
from isthmus.xds.secret import ALL_ROOTS, ROOT_CA, SVID, federated_roots_name

Roots = frozenset[str]
"""Certificates, by their SHA-256."""


def secrets(wanted: Wanted, part: Any) -> Iterator[Drift]:
    """``part``: an envoy.admin.v3.SecretsConfigDump. Of credentials, those are compared that ``wanted`` has."""
    credentials = {one.name: one for one in wanted.credentials}
    for one in part.static_secrets:
        yield Drift(wanted.proxy, Kind.SECRET, one.name, "is in the bootstrap, and was not declared")
    for one in part.dynamic_active_secrets:
        secret: Any = unpack(one.secret)
        known = credentials.get(secret.name)
        told = _secret(wanted, secret) if known is None else _credential(wanted, known, secret)
        if told is not None:
            yield Drift(wanted.proxy, Kind.SECRET, one.name, told)


def _credential(wanted: Wanted, known: Credential, secret: Any) -> str | None:
    shown = secret.tls_certificate.certificate_chain.inline_bytes
    if known.development_dns:
        return _development(wanted, known, shown)
    if known.chain:
        declared, runs = _hashes(known.chain), _hashes(shown)
        return None if declared == runs else f"shows {_short(runs)}, and was given {_short(declared)}"
    context = secret.validation_context
    declared, runs = _hashes(known.authorities), _hashes(context.trusted_ca.inline_bytes)
    if declared != runs:
        return f"trusts {_short(runs)}, and was given {_short(declared)}"
    return None if context.crl.inline_bytes == known.revoked else "goes by another list of what was revoked"


def _development(wanted: Wanted, known: Credential, chain: bytes) -> str | None:
    """Its key is the machine's own, and so is the moment when it is renewed."""
    if not wanted.trust:
        return None
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        names = certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = sorted(names.get_values_for_type(x509.DNSName))
    except (ValueError, x509.ExtensionNotFound):
        return "is not a certificate of names"
    if dns != sorted(known.development_dns):
        return f"{', '.join(sorted(known.development_dns))} → {', '.join(dns)}"
    return None if _of(wanted.trust[0], certificates[-1]) else "is not by the mesh's authority"


def _short(certificates: Roots) -> str:
    return ", ".join(one[:16] for one in sorted(certificates)) or "nothing"


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
    return None if _of(own, certificates[-1]) else f"is not by the authority of {own.trust_domain}"


def _of(trust: Trust, certificate: x509.Certificate) -> bool:
    return any(_issued(certificate, x509.load_pem_x509_certificate(root.encode())) for root in trust.roots)


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
