from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import quote

import grpc
import pytest
from cryptography.x509 import ocsp

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3, tls_v3
from isthmus.latest import Latest
from isthmus.model.ocsp_question import HEADER, OcspQuestion
from isthmus.model.revocation import ClientOcsp, OcspMode
from isthmus.proxy.client_check import SERVICE, ClientCheck
from isthmus.proxy.sds_stream import Secrets, ServedSecret
from isthmus.revocation.decision import OcspDecisions
from tests.real.pki import Authority
from tests.real.revocation_server import answered_at
from tests.revocation.making import FakeFetcher, answer

CA = Authority("clients")
URL = "http://ca.example/ocsp"
LEAF = CA.issue("billing.corp", "spiffe://corp/billing", extensions=[answered_at(URL)])
QUESTION = OcspQuestion("cas", ClientOcsp(OcspMode.REQUIRED, None, timedelta(seconds=1), timedelta(hours=1)))


class Context:
    def __init__(self, metadata: dict[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._metadata.items())

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise RuntimeError(code)


class Call:
    method = f"/{SERVICE}/Check"
    invocation_metadata = ()


def served() -> Secrets:
    context = tls_v3.CertificateValidationContext(trusted_ca=core_v3.DataSource(inline_bytes=CA.pem))
    packed = any_of(tls_v3.Secret(name="cas", validation_context=context))
    return Secrets(frozenset({"cas"}), {"cas": ServedSecret("cas", "1", packed)})


async def check(
    said: bytes | str,
    pem: str,
    secrets: Secrets | None = None,
    metadata: dict[str, str] | None = None,
    sni: str = "shop.example.com",
) -> tuple[int, str]:
    """The status code and the reason."""
    decisions = OcspDecisions(FakeFetcher(**{URL: said}), lambda: datetime.now(UTC))
    tested = ClientCheck("gateway~shop~edge", Latest(secrets or served()), decisions)
    method = tested.handler().service(Call()).unary_unary
    request = ext_authz_service_v3.CheckRequest()
    request.attributes.source.certificate = quote(pem)
    request.attributes.source.address.socket_address.address = "192.0.2.1"
    request.attributes.tls_session.sni = sni
    response: Any = await method(request, Context({HEADER: QUESTION.encode()} if metadata is None else metadata))
    return response.status.code, response.dynamic_metadata["reason"]


async def test_good_and_revoked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert await check(answer(LEAF, CA), LEAF.pem.decode()) == (0, "ocsp_good")
    assert not caplog.records
    revoked = answer(LEAF, CA, ocsp.OCSPCertStatus.REVOKED)
    assert await check(revoked, LEAF.pem.decode()) == (7, "ocsp_revoked")
    [told] = caplog.messages
    for part in (
        "gateway~shop~edge: client certificate refused: reason=ocsp_revoked",
        f"serial {LEAF.certificate.serial_number:x}",
        "'billing.corp', 'spiffe://corp/billing'",
        "server name shop.example.com, peer 192.0.2.1:0",
    ):
        assert part in told


async def test_a_server_name_writes_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    revoked = answer(LEAF, CA, ocsp.OCSPCertStatus.REVOKED)
    await check(revoked, LEAF.pem.decode(), sni="a\nWARNING all is well.example.com")
    [told] = caplog.messages
    assert "\n" not in told
    assert r"server name a\nWARNING all is well.example.com" in told


async def test_without_a_certificate_there_is_nothing_to_ask() -> None:
    assert await check("down", "") == (0, "ocsp_good")


@pytest.mark.parametrize(
    ("pem", "secrets", "reason"),
    [("nonsense", None, "ocsp_unreadable"), (LEAF.pem.decode(), Secrets(), "ocsp_no_issuer")],
)
async def test_what_cannot_be_decided_is_refused(pem: str, secrets: Secrets | None, reason: str) -> None:
    assert await check(answer(LEAF, CA), pem, secrets) == (7, reason)


async def test_a_call_without_its_policy_is_none() -> None:
    with pytest.raises(RuntimeError):
        await check(answer(LEAF, CA), LEAF.pem.decode(), metadata={})
