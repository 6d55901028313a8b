"""What clients' certificates must be, as Envoy's CertificateValidationContext."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

from isthmus.envoy_api.packages import matcher_v3, tls_v3
from isthmus.model.client_traffic import ANY_CERTIFICATE, ClientValidation, SanMatch, SanType, Wildcard
from isthmus.model.gateway import ServerTls
from isthmus.model.match import Exact, Prefix, Regex, Suffix
from isthmus.model.world import World
from isthmus.xds.secret import ca_credential_name, fetched_crls_name, file_roots_name

_LABEL = "[a-z0-9_-]+"


def client_roots_name(tls: ServerTls, namespace: str) -> str:
    """The secret of the CAs that clients' certificates must come from, and of what they revoked."""
    if tls.ca_credential is not None:
        return ca_credential_name(namespace, tls.ca_credential, tls.validation.crl_secrets)
    assert tls.ca_file is not None, "the reader refuses a server that asks without a CA"
    return file_roots_name(tls.ca_file, tls.validation.crl_file)


def client_roots_in_force(tls: ServerTls, namespace: str, world: World) -> str:
    """The same, with the lists that were fetched where the server goes by such."""
    name, points = client_roots_name(tls, namespace), tls.validation.crl_points
    return name if points is None else fetched_crls_name(name, world.crls.get((name, points)))


def add_client_validation(common: Any, validation: ClientValidation, roots: Any) -> None:
    """Add to a CommonTlsContext what ``validation`` says, and ``roots`` (an SdsSecretConfig)."""
    if validation == ANY_CERTIFICATE:
        common.validation_context_sds_secret_config.CopyFrom(roots)
        return
    common.combined_validation_context.CopyFrom(
        tls_v3.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=tls_v3.CertificateValidationContext(
                match_typed_subject_alt_names=[build_san_matcher(san) for san in validation.sans],
                verify_certificate_spki=validation.spki_hashes,
                verify_certificate_hash=validation.certificate_hashes,
                only_verify_leaf_cert_crl=validation.only_verify_leaf_crl,
            ),
            validation_context_sds_secret_config=roots,
        )
    )


def build_san_matcher(san: SanMatch) -> Any:
    """A SubjectAltNameMatcher."""
    return tls_v3.SubjectAltNameMatcher(
        san_type=tls_v3.SubjectAltNameMatcher.SanType.Value(san.type.value),
        matcher=_string_matcher(san.type, san.match),
        oid=san.oid or "",
    )


def _string_matcher(of: SanType, match: Exact | Prefix | Suffix | Regex | Wildcard) -> Any:
    """DNS names are compared without regard to case (RFC 4343), other names as they are.

    Envoy takes an exact DNS name as a server's: a *client* with a certificate for ``*.corp`` would be every host of
    corp. As a regex it is that name and no other.
    """
    dns = of is SanType.DNS
    match match:
        case Wildcard(value):
            return _regex(f"(?i){_LABEL}{re.escape(value.removeprefix('*'))}")
        case Exact(value) if dns:
            return _regex(f"(?i){re.escape(value)}")
        case Exact(value) if of is SanType.IP_ADDRESS:
            return matcher_v3.StringMatcher(exact=str(ip_address(value)))
        case Exact(value):
            return matcher_v3.StringMatcher(exact=value)
        case Prefix(value):
            return matcher_v3.StringMatcher(prefix=value, ignore_case=dns)
        case Suffix(value):
            return matcher_v3.StringMatcher(suffix=value, ignore_case=dns)
        case Regex(value):
            return _regex(value)


def _regex(value: str) -> Any:
    return matcher_v3.StringMatcher(safe_regex=matcher_v3.RegexMatcher(regex=value))
