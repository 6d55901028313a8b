"""Secrets by which peers of several trust domains are validated, each by its own roots. No IO.

Who takes calls does not know beforehand where a caller is from: ``ALL`` holds every bundle, for Envoy's SPIFFE
validator, which picks one by the peer's first URI SAN. Who calls knows: ``spiffe://<trust domain>`` holds one bundle,
for the default validator, since the SPIFFE validator takes a certificate of another domain that has a second name.
"""

from __future__ import annotations

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, tls_v3
from isthmus.proxy.plan import TrustBundle, trust_version
from isthmus.proxy.sds_stream import ServedSecret
from isthmus.xds.secret import ALL_ROOTS, federated_roots_name

_VALIDATOR = "envoy.tls.cert_validator.spiffe"


def federation_secrets(trust: tuple[TrustBundle, ...]) -> tuple[ServedSecret, ...]:
    """``ALL``, and the bundle of each trust domain that ``trust`` holds, the own one's first in it."""
    return (_all(trust), *(_alone(bundle) for bundle in trust))


def _all(trust: tuple[TrustBundle, ...]) -> ServedSecret:
    domain = tls_v3.SPIFFECertValidatorConfig.TrustDomain
    config = tls_v3.SPIFFECertValidatorConfig(
        trust_domains=[
            domain(name=name, trust_bundle=_roots(bundle))
            for bundle in trust
            for name in (bundle.trust_domain, *bundle.aliases)
        ]
    )
    validator = core_v3.TypedExtensionConfig(name=_VALIDATOR, typed_config=any_of(config))
    context = tls_v3.CertificateValidationContext(custom_validator_config=validator)
    return ServedSecret(
        ALL_ROOTS, trust_version(trust), any_of(tls_v3.Secret(name=ALL_ROOTS, validation_context=context))
    )


def _alone(bundle: TrustBundle) -> ServedSecret:
    name = federated_roots_name(bundle.trust_domain)
    context = tls_v3.CertificateValidationContext(trusted_ca=_roots(bundle))
    return ServedSecret(name, bundle.version, any_of(tls_v3.Secret(name=name, validation_context=context)))


def _roots(bundle: TrustBundle) -> object:
    return core_v3.DataSource(inline_bytes="".join(bundle.roots).encode())
