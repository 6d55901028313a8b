"""What ``isthmus demo`` does before and after everything runs."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from isthmus.api.client import ApiClient
from isthmus.demo.accounts import PEOPLE
from isthmus.demo.render import manifests
from isthmus.demo.requests import FIRST, TRIES, Outcome, Places, Try, judge
from isthmus.jwks.signing import new_signing_key
from isthmus.state import StateDir

_LOOPBACK = "127.0.0.1"
_PORT_FILE = "demo/identity-provider.json"
_KEY_FILE = "demo/identity-provider.pem"
_MANIFESTS = "demo/manifests"
_SETTLE_SECONDS = 20.0
_EVERY_SECONDS = 0.2
_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """``manifests``: the folder to run."""

    manifests: Path
    idp_url: str


def prepare(state_dir: Path) -> Prepared:
    """Write the manifests, and the identity provider's key, into the state.

    The identity provider keeps its port from an earlier run where that is still free: its URL is in every token.
    Raises StateHeld (a demo runs with this state), StateUnusable.
    """
    state = StateDir.at(state_dir).open()
    with state.lock("demo"):
        port = _kept_port(state)
        if state.read(_KEY_FILE) is None:
            state.write_private(_KEY_FILE, new_signing_key().pem())
        url = f"http://{_LOOPBACK}:{port}"
        for name, text in manifests(url, port).items():
            state.write_private(f"{_MANIFESTS}/{name}", text.encode())
        return Prepared(state.path / _MANIFESTS, url)


def _kept_port(state: StateDir) -> int:
    kept = state.read(_PORT_FILE)
    if kept is not None and _is_free(port := int(json.loads(kept)["port"])):
        return port
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port = int(probe.getsockname()[1])
    state.write_private(_PORT_FILE, json.dumps({"port": port}).encode())
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def places(ready: dict[str, Any], prepared: Prepared) -> Places:
    """Where things are, from the ready document."""
    listeners = {
        listener["declared_port"]: listener["address"]
        for gateway in ready["gateways"]
        for listener in gateway["listeners"]
    }
    return Places(
        https=listeners[8443],
        http=listeners[8080],
        idp_url=prepared.idp_url,
        state=Path(ready["state"]),
        ca_bundle=Path(ready["ca_bundle"]),
    )


async def fetch_tokens(idp_url: str) -> dict[str, str]:
    """A token for each of the demo's people, by name. Raises httpx.HTTPError."""
    async with httpx.AsyncClient(base_url=idp_url, trust_env=False, timeout=_TIMEOUT_SECONDS) as client:
        tokens = {}
        for person in PEOPLE:
            form = {"grant_type": "password", "username": person.name, "password": person.secret}
            response = await client.post("/token", data=form)
            response.raise_for_status()
            tokens[person.name] = str(response.json()["access_token"])
        return tokens


async def check(where: Places, tries: Sequence[Try] = TRIES) -> list[Outcome]:
    """Send every request and compare its answer, one after the other: they are a story.

    Before that, :func:`settle`. What does not answer is an Outcome, too.
    """
    sender = await settle(where)
    return [await sender.send(one) for one in tries]


async def settle(where: Places) -> Sender:
    """Wait until a good token is taken everywhere, at most 20 s for each of its two parts.

    The identity provider has only just started, and everybody who verifies tokens still has to learn its keys. A sender
    without tokens comes of one that does not start.
    """
    tokens: dict[str, str] = {}
    give_up = time.monotonic() + _SETTLE_SECONDS
    while not tokens and time.monotonic() < give_up:
        try:
            tokens = await fetch_tokens(where.idp_url)
        except httpx.HTTPError:
            await asyncio.sleep(_EVERY_SECONDS)
    sender = Sender(where, tokens)
    give_up = time.monotonic() + _SETTLE_SECONDS
    while tokens and time.monotonic() < give_up:
        if (await sender.send(FIRST)).passed:
            break
        await asyncio.sleep(_EVERY_SECONDS)
    return sender


class Sender:
    """Sends the requests of the demo as their curl commands do."""

    def __init__(self, where: Places, tokens: dict[str, str]) -> None:
        self._where = where
        self._tokens = tokens
        self._trust = ssl.create_default_context(cafile=str(where.ca_bundle))

    async def send(self, one: Try) -> Outcome:
        if one.person is not None and one.person not in self._tokens:
            return Outcome(one, None, f"no token for {one.person}: the identity provider does not answer")
        try:
            if one.workload is not None:
                return await self._from_inside(one, one.workload)
            async with httpx.AsyncClient(verify=self._trust, trust_env=False, timeout=_TIMEOUT_SECONDS) as client:
                return await self._from_outside(client, one)
        except httpx.HTTPError as fault:
            return Outcome(one, None, f"{type(fault).__name__}: {fault}")

    async def _from_outside(self, client: httpx.AsyncClient, one: Try) -> Outcome:
        """To the gateway's address, under the host's name: what curl does with --resolve."""
        address = self._where.gateway(one)
        host = f"{one.host}:{address.rpartition(':')[2]}"
        response = await client.request(
            one.method,
            f"{one.scheme}://{address}{one.path}",
            headers={"host": host, **self._headers(one)},
            content=one.body,
            extensions={"sni_hostname": one.host},
        )
        return judge(one, response.status_code, response.text)

    async def _from_inside(self, one: Try, service_account: str) -> Outcome:
        """As a workload of the shop: what ``isthmus run`` does."""
        api = ApiClient(StateDir.at(self._where.state).api_socket)
        async with api.workload("shop", service_account, {}) as workload:
            proxy = workload["env"]["http_proxy"]
            async with httpx.AsyncClient(proxy=proxy, trust_env=False, timeout=_TIMEOUT_SECONDS) as client:
                response = await client.request(
                    one.method, f"http://{one.host}{one.path}", headers=self._headers(one), content=one.body
                )
        return judge(one, response.status_code, response.text)

    def _headers(self, one: Try) -> dict[str, str]:
        bearer = one.bearer if one.person is None else self._tokens[one.person]
        return {**dict(one.headers), **({"authorization": f"Bearer {bearer}"} if bearer else {})}
