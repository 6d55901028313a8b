from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.filters.ca_peer import build_ca_policy
from tests.real.pki import Authority, Flaw, Leaf

ROOT = Authority("root")
REGEX = build_ca_policy().principals[0].filter_state.string_match.safe_regex.regex


def closed(pem: bytes) -> bool:
    """Whether the policy meets a certificate, in the form that %DOWNSTREAM_PEER_CERT% has."""
    return re.fullmatch(REGEX, quote(pem.decode(), safe="")) is not None


@pytest.mark.parametrize("length", range(1, 40))
def test_wherever_the_extension_stands(length: int) -> None:
    """Names of any length move it against base64's groups and lines."""
    name = "x" * length
    assert closed(ROOT.issue("a.example.com", flaw=Flaw.CA, common_name=name).pem)
    assert not closed(ROOT.issue("a.example.com", common_name=name).pem)
    assert closed(Authority(name).pem)


@pytest.mark.parametrize("path_length", [None, 0, 127, 128, 255])
@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("padding", range(3))
def test_every_form_of_the_extension(path_length: int | None, critical: bool, padding: int) -> None:
    leaf: Leaf = ROOT.issue("a")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "p" * (padding + 1))]))
        .issuer_name(ROOT.subject)
        .public_key(leaf.private.public_key())
        .serial_number(1)
        .not_valid_before(leaf.certificate.not_valid_before_utc)
        .not_valid_after(leaf.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=critical)
    )
    assert closed(builder.sign(ROOT.private, hashes.SHA256()).public_bytes(Encoding.PEM))
