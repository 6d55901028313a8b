from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.decide.client.certificate import Nobody, certificate_names, consumer_of, owners_of
from isthmus.decide.client.outcome import Refused, Verified
from tests.real.pki import Authority, Flaw

CA = Authority("clients")
OWNERS = owners_of(
    [
        ("shop/partner", ("Partner.example", "spiffe://partner.example/billing")),
        ("shop/old", ("CN=Partner Ltd",)),
        ("shop/other", ("other.example",)),
    ]
)


def written(*names: str, flaw: Flaw | None = None) -> str:
    """As Envoy tells of a certificate."""
    return quote(CA.issue(*names, flaw=flaw).pem.decode())


def test_names() -> None:
    names = certificate_names(written("A.example", "spiffe://td/b"))
    assert {"a.example", "spiffe://td/b"} <= names


@pytest.mark.parametrize(
    ("names", "consumer"),
    [
        (("partner.example",), "shop/partner"),
        (("PARTNER.EXAMPLE",), "shop/partner"),
        (("spiffe://partner.example/billing",), "shop/partner"),
        (("partner.example", "spiffe://partner.example/billing", "more.example"), "shop/partner"),
        (("stranger.example",), None),
        (("spiffe://partner.example/Billing",), None),
        (("x.partner.example",), None),
        (("*.example",), None),
    ],
)
def test_whose_it_is(names: tuple[str, ...], consumer: str | None) -> None:
    found = consumer_of(written(*names), OWNERS)
    assert found == (None if consumer is None else Verified("certificate", consumer))


def test_a_name_of_one_sort_is_none_of_another() -> None:
    """A CA may look at one sort of name and let people choose another."""
    assert consumer_of(quote(signed(x509.DNSName("CN=Partner Ltd")).decode()), OWNERS) is None
    assert consumer_of(quote(signed(x509.DNSName("spiffe://partner.example/billing")).decode()), OWNERS) is None
    assert consumer_of(quote(signed(x509.UniformResourceIdentifier("partner.example")).decode()), OWNERS) is None


def signed(name: x509.GeneralName) -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    nobody = x509.Name([])
    builder = x509.CertificateBuilder(nobody, nobody, key.public_key(), x509.random_serial_number(), now, now)
    made = builder.add_extension(x509.SubjectAlternativeName([name]), critical=True).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM)


def test_a_common_name_where_it_is_written_so() -> None:
    certificate = written("Partner Ltd", flaw=Flaw.COMMON_NAME_ONLY)
    assert certificate_names(certificate) == {"CN=Partner Ltd"}
    assert consumer_of(certificate, OWNERS) == Verified("certificate", "shop/old")
    assert consumer_of(certificate, owners_of([("shop/old", ("Partner Ltd", "partner ltd"))])) is None


@pytest.mark.parametrize(
    "certificate",
    [
        "nonsense",
        quote("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        "%",
        "A" * (65 << 10),
        written("spiffe://td/a", "spiffe://td/b"),
    ],
)
def test_what_names_nobody_is_refused(certificate: str) -> None:
    with pytest.raises(Nobody):
        certificate_names(certificate)
    assert consumer_of(certificate, OWNERS) == Refused("consumer-unknown", 401)


def test_two_consumers_names_are_neithers() -> None:
    found = consumer_of(written("partner.example", "other.example"), OWNERS)
    assert found == Refused("consumer-unknown", 401)
