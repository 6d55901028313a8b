"""Joining a control plane of another machine: by a join token once, by the node's certificate ever after."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from isthmus.errors import NotEnrolled, Refused, SvidInvalid, Unreachable
from isthmus.identity.authority import control_plane_dns_name
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.ticket import Ticket, pinned
from isthmus.model.world import Address
from isthmus.proxy.agent import node_file
from isthmus.proxy.credential import Certificate, certificate, lasting, request_for_identity
from isthmus.proxy.holder import now
from isthmus.proxy.unreached import ask_the_clock, is_clock
from isthmus.state import StateDir

FILE = "membership.json"
_TIMEOUT = httpx.Timeout(10.0)
_LONGEST_ROOTS = 1 << 20


@dataclass(frozen=True, slots=True)
class Membership:
    """Which node this machine is, and of whom."""

    node: str
    control_plane_id: SpiffeId
    joined_by: str = ""
    """SHA-256 of the token that it joined with."""

    def certificate(self, state: StateDir) -> Certificate:
        """The node's, as its agent left it last. Raises NotEnrolled: it has ended, or is not there."""
        content = state.read(node_file(self.node))
        try:
            left = json.loads(content or b"{}")
            held = certificate(left["key"].encode(), left["chain"])
        except (ValueError, KeyError, TypeError, SvidInvalid):
            raise NotEnrolled(f"node {self.node} has no certificate any more: {_AGAIN}") from None
        if not lasting(held, now(), timedelta()):
            ended = f"ended at {held.not_after:%Y-%m-%d %H:%M} UTC, and it is {now():%Y-%m-%d %H:%M} here"
            raise NotEnrolled(f"the certificate of node {self.node} {ended}: {_AGAIN}")
        return held


_AGAIN = "it needs a new join token (`isthmus node token`, where the control plane runs)"


def left(state: StateDir) -> Membership | None:
    """What an earlier run on this state was; None if there was none."""
    content = state.read(FILE)
    try:
        found = json.loads(content) if content is not None else None
        return None if found is None else _of(found)
    except (ValueError, KeyError, TypeError):
        return None


async def member(state: StateDir, at: Address, text: str | None) -> Membership:
    """Who this machine is: as it was, or what the join token ``text`` makes it. ``at``: the control plane.

    The token that it joined with, while its certificate lasts, is not shown again: so a command with a token in it can
    be run again. Raises Refused, NotEnrolled (with what to do) or Unreachable.
    """
    known = left(state)
    if text is None:
        if known is None:
            raise Refused(f"this machine has not joined yet: {_AGAIN}")
        known.certificate(state)
        return known
    ticket = Ticket.decode(text)
    if known is not None and known.joined_by == _digest(ticket):
        with suppress(NotEnrolled):
            known.certificate(state)
            return known
    return await _join(state, Address(at.host, ticket.enrol_port), ticket)


async def _join(state: StateDir, at: Address, ticket: Ticket) -> Membership:
    roots = pinned((await _ask(at, _unverified(), None, None))["roots"], ticket.pins)
    uri = SpiffeId.node(ticket.control_plane_id.trust_domain, ticket.node).uri
    request = request_for_identity(uri)
    name = control_plane_dns_name(ticket.control_plane_id)
    answer = await _ask(at, _verified(roots), name, {"token": ticket.token, "csr": request.csr_pem})
    try:
        chain = [str(one) for one in answer["chain"]]
        certificate(request.key_pem, chain)
    except (KeyError, TypeError, SvidInvalid) as broken:
        raise Unreachable(f"the answer of {at} cannot be read: {type(broken).__name__}") from broken
    membership = Membership(ticket.node, ticket.control_plane_id, _digest(ticket))
    # In the agent's own folder, where it finds it as if it had left it there.
    content = json.dumps({"key": request.key_pem.decode(), "chain": chain})
    state.write_private(node_file(ticket.node), content.encode())
    known = {
        "node": membership.node,
        "control_plane": membership.control_plane_id.uri,
        "joined_by": membership.joined_by,
    }
    state.write_private(FILE, json.dumps(known).encode())
    return membership


def _of(known: dict[str, Any]) -> Membership:
    return Membership(known["node"], SpiffeId.parse(known["control_plane"]), known["joined_by"])


def _digest(ticket: Ticket) -> str:
    return hashlib.sha256(ticket.token.encode()).hexdigest()


async def _ask(at: Address, trust: ssl.SSLContext, name: str | None, body: Mapping[str, str] | None) -> dict[str, Any]:
    """Without a body: the roots. ``name``: whom the certificate must be for. The token goes only to whom is trusted."""
    extensions = {} if name is None else {"sni_hostname": name}
    try:
        async with httpx.AsyncClient(verify=trust, timeout=_TIMEOUT, trust_env=False) as client:
            if body is None:
                return {"roots": await _roots(client, f"https://{at}/v1/roots", extensions)}
            response = await client.post(f"https://{at}/v1/enrol", json=dict(body), extensions=extensions)
            found: dict[str, Any] = response.json()
    except httpx.TransportError as failed:
        if is_clock(str(failed)):
            raise Unreachable(f"the join token was not shown to {at}: {ask_the_clock(now())}") from failed
        if "CERTIFICATE_VERIFY_FAILED" in str(failed):
            raise NotEnrolled(f"what answers at {at} is not the control plane of the join token: {failed}") from failed
        raise Unreachable(f"no control plane answers at {at}: {failed or type(failed).__name__}") from failed
    except ValueError as broken:
        raise Unreachable(f"the answer of {at} cannot be read") from broken
    if response.status_code != httpx.codes.OK:
        said = found.get("error", f"the control plane answered {response.status_code}")
        raise NotEnrolled(f"{said}: {_AGAIN}")
    return found


async def _roots(client: httpx.AsyncClient, url: str, extensions: Mapping[str, str]) -> str:
    """Of somebody who is not trusted yet. Raises ValueError: no ASCII text, or more of it than roots ever are."""
    said = bytearray()
    async with client.stream("GET", url, extensions=dict(extensions)) as answer:
        async for part in answer.aiter_raw():
            said += part
            if len(said) > _LONGEST_ROOTS:
                raise ValueError("too long")
    return said.decode("ascii")


def _unverified() -> ssl.SSLContext:
    """To be told public certificates, which are then compared with what the token says of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _verified(roots: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=roots)
    return context
