"""Requests that come by the wrong connection: answered with 421, on which a client opens the right one.

A connection is for the hosts of one server: its certificate and its demands of clients were met by TLS server name, at
the handshake. A request for a host of another server is not answered on it (RFC 9110, section 15.5.20; HTTP/2 clients
reuse a connection for whatever its certificate covers, RFC 9113, section 9.1.1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.envoy_api.packages import route_v3
from isthmus.model.gateway import Gateway, Server
from isthmus.model.host import wildcards
from isthmus.xds.plain_route import refuse

_MISDIRECTED = "this host has a TLS server name of its own, which asks for a client certificate\n"
_ELSEWHERE = "this connection is for other hosts: open one with the TLS server name of this host\n"

Opened = tuple[Gateway, Server]
Demand = tuple[object, ...]


def demand(opened: Opened) -> Demand | None:
    """What a server asks of its clients before they may speak; None: nothing.

    What connections are passed on to has demands of its own, which are not known here.
    """
    gateway, server = opened
    if not server.is_http:
        return gateway.key, server.port_name
    tls = server.tls
    if tls is None or not tls.mode.asks:
        return None
    # Whatever else it says is its own certificate, versions and ciphers: the handshake's, and as good elsewhere.
    asked = (gateway.namespace, tls.mode, tls.ca_credential, tls.ca_file, tls.validation)
    return *asked, replace(server.client_traffic, origin=None)


@dataclass(frozen=True, slots=True)
class Demanding:
    """The hosts of one port that not everybody may answer for, by every wildcard that takes them."""

    _asked: Mapping[str, Sequence[tuple[Demand, str]]] = field(default_factory=dict)
    _closed: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, opened: Iterable[Opened], closed: Iterable[str]) -> Demanding:
        """``closed``: hosts of servers that are not opened."""
        asked: dict[str, list[tuple[Demand, str]]] = defaultdict(list)
        for one in opened:
            wanted = demand(one)
            if wanted is not None:
                for host in one[1].hosts:
                    for pattern in wildcards(host.name):
                        asked[pattern].append((wanted, host.name))
        shut: dict[str, list[str]] = defaultdict(list)
        for name in closed:
            for pattern in wildcards(name):
                shut[pattern].append(name)
        return cls(asked, shut)

    def within(self, group: Sequence[Opened]) -> tuple[str, ...]:
        """Hosts within those of ``group`` that it must not answer for.

        By another server name a request for one of them would slip past its own server's demand; and a wildcard's
        server must not answer for a server that is not opened, without its demands.
        """
        own = {host.name for _, server in group for host in server.hosts}
        same = {demand(one) for one in group}
        found = {
            host for name in own for wanted, host in self._asked.get(name, ()) if host != name and same != {wanted}
        }
        found.update(host for name in own for host in self._closed.get(name, ()))
        return tuple(sorted(found))


def refused_hosts(misdirected: Iterable[str], port: int) -> list[Any]:
    """A virtual host with a 421 for each of ``misdirected``."""
    return [
        route_v3.VirtualHost(name=f"{host}:{port}", domains=[host], routes=[refuse("misdirected", 421, _MISDIRECTED)])
        for host in misdirected
    ]


def elsewhere(own: Iterable[str], answered: Iterable[str], port: int) -> list[Any]:
    """Virtual hosts for what is left behind TLS: 404 for a server's ``own`` hosts without routes, 421 for others'.

    ``answered``: the domains that other virtual hosts have.
    """
    known = set(answered)
    silent = [host for host in dict.fromkeys(own) if host not in known]
    found = [route_v3.VirtualHost(name=f"unrouted:{port}", domains=silent)] if silent else []
    if "*" not in known and "*" not in silent:
        refusal = refuse("elsewhere", 421, _ELSEWHERE)
        found.append(route_v3.VirtualHost(name=f"elsewhere:{port}", domains=["*"], routes=[refusal]))
    return found
