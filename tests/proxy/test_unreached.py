from __future__ import annotations

from datetime import UTC, datetime

import pytest

from isthmus.proxy.unreached import is_clock, unreached

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONNECT = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:9: "
TLS = "Ssl handshake failed: SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: "


@pytest.mark.parametrize(
    ("details", "said"),
    [
        (
            f"{CONNECT}Failed to connect to remote host: Connection refused",
            "nothing runs here until it is: Connection refused",
        ),
        (f"{CONNECT}Cannot check peer: missing selected ALPN property.", "another port answers there"),
        (f"{CONNECT}{TLS}self signed certificate in certificate chain", "needs a new join token"),
        (f"{CONNECT}{TLS}certificate is not yet valid", "this machine's time, 2026-01-02 03:04 UTC: is the clock"),
        (f"{CONNECT}{TLS}certificate has expired", "is the clock right?"),
        ("Deadline Exceeded", "UNAVAILABLE: Deadline Exceeded"),
    ],
)
def test_what_to_do_is_said(details: str, said: str) -> None:
    assert said in unreached("UNAVAILABLE", details, NOW, runs=False)


def test_what_runs_is_said_to_go_on() -> None:
    assert "what runs goes on as it is" in unreached("UNAVAILABLE", "x", NOW, runs=True)


def test_an_expired_token_is_no_matter_of_the_clock() -> None:
    assert not is_clock("the join token has expired")
