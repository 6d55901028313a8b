from __future__ import annotations

import ssl

import httpx
import pytest

from isthmus.api.bundle_endpoint import build_bundle_endpoint, server_context, show
from tests.real.pki import Authority


async def test_the_document_and_nothing_else() -> None:
    transport = httpx.ASGITransport(build_bundle_endpoint(lambda: '{"keys": []}'))
    async with httpx.AsyncClient(transport=transport, base_url="https://endpoint") as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.json()) == (200, {"keys": []})
        assert answer.headers["content-type"] == "application/json"
        assert (await client.get("/other")).status_code == 404
        assert (await client.post("/")).status_code == 405


def test_it_asks_for_no_certificate_and_shows_what_it_is_told() -> None:
    context, root = server_context(), Authority("root")
    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    leaf, other = root.issue("localhost"), root.issue("localhost")
    show(context, leaf.chain, leaf.key)
    with pytest.raises(ssl.SSLError):
        show(context, leaf.chain, other.key)
