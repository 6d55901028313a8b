from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from datetime import timedelta

import httpx
import pytest

from isthmus.api.bundle_endpoint import build_bundle_endpoint, run_bundle_endpoint, server_context, show
from isthmus.api.listening import tcp_socket
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


async def test_who_says_nothing_holds_no_place_for_ever() -> None:
    context, root = server_context(), Authority("root")
    leaf = root.issue("localhost")
    show(context, leaf.chain, leaf.key)
    listening = tcp_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    app = build_bundle_endpoint(lambda: "{}")
    serving = asyncio.create_task(run_bundle_endpoint(app, listening, context, timedelta(seconds=2)))
    silent = ssl.create_default_context(cadata=root.pem.decode())
    held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        while len(held) < 100:
            try:
                held.append(await asyncio.open_connection("localhost", port, ssl=silent))
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(30), httpx.AsyncClient(verify=silent, trust_env=False) as client:
            while True:
                with suppress(httpx.TransportError):
                    if (await client.get(f"https://localhost:{port}/")).status_code == 200:
                        break
                await asyncio.sleep(0.1)
        assert await held[0][0].read() == b"", "it was closed"
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        for _, writer in held:
            writer.transport.abort()
