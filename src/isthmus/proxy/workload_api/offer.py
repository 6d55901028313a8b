"""What this machine has to give, at one time: plain values, and what SVIDs and bundles look like on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, tls_v3
from isthmus.identity.workload_wire import message
from isthmus.model.spiffe_bundle import JWT_USE
from isthmus.proxy.credential import Certificate, certificate_secret
from isthmus.proxy.plan import TrustBundle
from isthmus.proxy.sds_stream import Secrets, ServedSecret
from isthmus.proxy.workload_api.entitlement import Declared, Entitlement
from isthmus.xds.secret import ROOT_CA, SVID

ALL = "ALL"
"""SDS: every trust domain's bundle in one validation context, apart from one another (SPIRE's name for it)."""
_SPIFFE_VALIDATOR = "envoy.tls.cert_validator.spiffe"
_SCHEME = "spiffe://"


@dataclass(frozen=True, slots=True)
class Offer:
    """``certificates``: those that are there, by identity and seconds to live. ``trust``: the own domain's first."""

    declared: Declared
    trust: tuple[TrustBundle, ...] = ()
    certificates: Mapping[tuple[str, int], Certificate] = field(default_factory=dict)

    def certificate(self, entitled: Entitlement) -> Certificate | None:
        return self.certificates.get((entitled.identity, entitled.svid_ttl_seconds))

    def jwt_bundles(self) -> Mapping[str, tuple[str, ...]]:
        """By trust domain: the public keys of its JWT-SVIDs."""
        return {bundle.trust_domain: bundle.jwt_keys for bundle in self.trust}


def x509_svids(offer: Offer, entitled: Sequence[Entitlement]) -> Any | None:
    """An X509SVIDResponse with all of them; None while one is not there yet: a response is the complete state."""
    svids = []
    for one in entitled:
        held = offer.certificate(one)
        if held is None:
            return None
        svids.append(_x509_svid(one, held, offer.trust[0]))
    federated = {_id(bundle): _der(bundle.roots) for bundle in offer.trust[1:]}
    return message("X509SVIDResponse")(svids=svids, federated_bundles=federated)


def _x509_svid(entitled: Entitlement, held: Certificate, own: TrustBundle) -> Any:
    key = load_pem_private_key(held.key_pem, None)
    chain = x509.load_pem_x509_certificates(held.chain)
    return message("X509SVID")(
        spiffe_id=entitled.identity,
        x509_svid=b"".join(certificate.public_bytes(Encoding.DER) for certificate in chain),
        x509_svid_key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        bundle=_der(own.roots),
        hint=entitled.hint,
    )


def x509_bundles(trust: Iterable[TrustBundle]) -> Any:
    """An X509BundlesResponse."""
    return message("X509BundlesResponse")(bundles={_id(bundle): _der(bundle.roots) for bundle in trust})


def jwt_bundles(trust: Iterable[TrustBundle]) -> Any:
    """A JWTBundlesResponse: a JWK Set for each trust domain that has keys for JWT-SVIDs."""
    sets = {_id(bundle): _jwk_set(bundle.jwt_keys) for bundle in trust if bundle.jwt_keys}
    return message("JWTBundlesResponse")(bundles=sets)


def _jwk_set(keys: Iterable[str]) -> bytes:
    return json.dumps({"keys": [{**json.loads(key), "use": JWT_USE} for key in keys]}).encode()


def secrets(offer: Offer, entitled: Sequence[Entitlement]) -> Secrets:
    """For an Envoy: SVIDs by SPIFFE ID, the first as ``default`` too; bundles as ROOTCA, by trust domain and ALL."""
    served = [_validation(ROOT_CA, offer.trust[0]), _all(offer.trust)]
    served += [_validation(_id(bundle), bundle) for bundle in offer.trust]
    planned = {SVID, *(one.identity for one in entitled)}
    for position, one in enumerate(entitled):
        held = offer.certificate(one)
        if held is not None:
            served.append(certificate_secret(one.identity, held))
            if position == 0:
                served.append(certificate_secret(SVID, held))
    by_name = {secret.name: secret for secret in served}
    return Secrets(frozenset(planned | by_name.keys()), by_name)


def _validation(name: str, bundle: TrustBundle) -> ServedSecret:
    context = tls_v3.CertificateValidationContext(trusted_ca=_pem(bundle))
    return ServedSecret(name, bundle.version, any_of(tls_v3.Secret(name=name, validation_context=context)))


def _all(trust: Sequence[TrustBundle]) -> ServedSecret:
    domain = tls_v3.SPIFFECertValidatorConfig.TrustDomain
    validator = tls_v3.SPIFFECertValidatorConfig(
        trust_domains=[
            domain(name=name, trust_bundle=_pem(bundle))
            for bundle in trust
            for name in (bundle.trust_domain, *bundle.aliases)
        ]
    )
    custom = core_v3.TypedExtensionConfig(name=_SPIFFE_VALIDATOR, typed_config=any_of(validator))
    context = tls_v3.CertificateValidationContext(custom_validator_config=custom)
    version = ".".join(f"{bundle.trust_domain}-{bundle.version}" for bundle in trust)
    return ServedSecret(ALL, version, any_of(tls_v3.Secret(name=ALL, validation_context=context)))


def _pem(bundle: TrustBundle) -> Any:
    return core_v3.DataSource(inline_bytes="".join(bundle.roots).encode())


def _id(bundle: TrustBundle) -> str:
    return f"{_SCHEME}{bundle.trust_domain}"


def _der(roots: Iterable[str]) -> bytes:
    return b"".join(x509.load_pem_x509_certificate(root.encode()).public_bytes(Encoding.DER) for root in roots)
