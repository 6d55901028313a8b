from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.model.handshake import CLIENT_GONE, REASONS, reason_of


def test_codes_are_stable_and_told_apart() -> None:
    codes = [reason.code for reason in REASONS]
    assert len(set(codes)) == len(codes)
    assert all(code.startswith("tls-") for code in codes)
    assert REASONS[-1] is CLIENT_GONE


def test_the_guide_knows_every_code() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "tls-troubleshooting.md").read_text()
    assert [reason.code for reason in REASONS if f"| `{reason.code}` |" not in guide] == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:"
            "_X509_verify_cert:_certificate_verification_error_at_depth_0:_certificate_has_expired:TLS_error_end",
            "tls-certificate-expired",
        ),
        ("verify cert failed: SAN matcher, certificate SANs are [certificate_has_expired]", "tls-san-mismatch"),
        (
            "TLS_error|error:1000009c:SSL_routines:OPENSSL_internal:HTTP_REQUEST - filter_chain_not_found",
            "tls-not-tls",
        ),
        ("transport_socket_timeout", "tls-timeout"),
        ("CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_something_new", "tls-certificate-refused"),
        ("filter_chain_not_found", "tls-unknown-server-name"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "tls-client-rejected-us"),
        ("Connection reset by peer", "tls-client-gone"),
        ("", "tls-client-gone"),
    ],
)
def test_envoys_words(text: str, code: str) -> None:
    assert reason_of(text).code == code
