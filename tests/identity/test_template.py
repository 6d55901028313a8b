from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus.identity.authority import Authority, create_intermediate, create_root
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.template import server_template, svid_template

from .making import DOMAIN, HOUR, NOW, make_authority, new_key

ORDERS = SpiffeId.workload(DOMAIN, "shop", "orders")


def svid(
    authority: Authority, now: datetime = NOW, ttl: timedelta = HOUR, dns_names: tuple[str, ...] = ()
) -> x509.Certificate:
    template = svid_template(ORDERS, new_key().public_key(), authority.chain[0], now, ttl, dns_names)
    return template.sign(authority.signing_key, hashes.SHA256())


def test_an_svid_says_what_the_standard_asks_and_no_more() -> None:
    authority = make_authority()
    made = svid(authority)
    extensions = {extension.value.__class__: extension for extension in made.extensions}
    assert made.subject == x509.Name([])
    assert made.issuer == authority.chain[0].subject
    names = extensions[x509.SubjectAlternativeName]
    assert names.critical, "RFC 5280 4.2.1.6: the subject is empty"
    assert list(names.value) == [x509.UniformResourceIdentifier(ORDERS.uri)]
    constraints = extensions[x509.BasicConstraints]
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (False, None)
    usage = extensions[x509.KeyUsage]
    assert usage.critical
    assert usage.value.digital_signature
    assert not any((usage.value.key_cert_sign, usage.value.crl_sign, usage.value.key_encipherment))
    uses = extensions[x509.ExtendedKeyUsage]
    assert list(uses.value) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_key = authority.chain[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert extensions[x509.AuthorityKeyIdentifier].value.key_identifier == issuer_key.digest
    assert len(extensions) == 6


def test_two_certificates_never_share_a_serial_number() -> None:
    authority = make_authority()
    assert svid(authority).serial_number != svid(authority).serial_number


def test_it_starts_a_minute_ago_but_not_before_its_issuer() -> None:
    authority = make_authority()
    later = NOW + timedelta(days=1)
    assert svid(authority, later).not_valid_before_utc == later - timedelta(minutes=1)
    young = make_authority(NOW + timedelta(minutes=1))
    assert young.chain[0].not_valid_before_utc == NOW
    assert svid(young, NOW + timedelta(seconds=5)).not_valid_before_utc == NOW


def test_it_ends_after_its_ttl_and_not_after_its_issuer() -> None:
    authority = make_authority()
    ends = authority.chain[0].not_valid_after_utc
    assert svid(authority, ttl=HOUR).not_valid_after_utc == NOW + HOUR
    assert svid(authority, ends - timedelta(minutes=5)).not_valid_after_utc == ends


def test_dns_names_stand_beside_the_one_uri() -> None:
    names = svid(make_authority(), dns_names=("isthmus.istio-system.svc",)).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [ORDERS.uri]
    assert names.value.get_values_for_type(x509.DNSName) == ["isthmus.istio-system.svc"]


def test_a_server_certificate_has_dns_names_only_and_is_no_clients() -> None:
    authority = make_authority()
    template = server_template(("shop.example.com",), new_key().public_key(), authority.chain[0], NOW, HOUR)
    made = template.sign(authority.signing_key, hashes.SHA256())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("shop.example.com")]
    uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_the_root_lives_ten_years_and_signs_only() -> None:
    root, _ = create_root(DOMAIN, NOW)
    assert root.not_valid_after_utc == NOW + timedelta(days=3650)
    assert root.subject == root.issuer
    _expect_authority(root, path_length=None)


def test_the_intermediate_has_no_authority_below_it_and_lives_a_year() -> None:
    root, key = create_root(DOMAIN, NOW)
    intermediate, _ = create_intermediate(DOMAIN, root, key, NOW)
    assert intermediate.not_valid_after_utc == NOW + timedelta(days=365)
    assert intermediate.issuer == root.subject
    _expect_authority(intermediate, path_length=0)


def test_the_intermediate_ends_with_its_root() -> None:
    root, key = create_root(DOMAIN, NOW)
    intermediate, _ = create_intermediate(DOMAIN, root, key, NOW + timedelta(days=3600))
    assert intermediate.not_valid_after_utc == root.not_valid_after_utc


def test_two_authorities_have_two_names() -> None:
    assert create_root(DOMAIN, NOW)[0].subject != create_root(DOMAIN, NOW)[0].subject


def _expect_authority(certificate: x509.Certificate, path_length: int | None) -> None:
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://cluster.local")]
