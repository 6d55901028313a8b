"""Certificates on demand: many servers of one port behind one filter chain, each certificate got when first asked for.

Servers with a chain each cost an Envoy a TLS context, a connection manager and a route configuration each, used or not.
Those that are alike but for hosts and certificate share all of these from some number on: Envoy's on-demand selector
asks the agent for a secret of the TLS server name's own name at the first handshake that names it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, unpack
from isthmus.envoy_api.packages import core_v3, on_demand_secret_v3, sni_mapper_v3
from isthmus.model.client_headers import Resumption
from isthmus.model.client_traffic import ClientTraffic
from isthmus.model.gateway import Gateway, Server, ServerTls
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy
from isthmus.xds.secret import credential_name, delta_sds

FROM = 100
"""Servers of one port that are alike, from which on they share a chain: docs/decisions/0023-tenants.md."""
LONGEST_HANDSHAKE = timedelta(seconds=15)
"""How long a client waits for a certificate that does not come: the control plane is away, and nobody asked before."""
_NO_NAME = "no-server-name"
"""What is asked for without a server name. No chain takes such a client, and no host is called so: it has no dot."""


@dataclass(frozen=True, slots=True)
class OnDemand:
    """What one gateway proxy gets on demand."""

    chains: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By Gateway (``namespace/name``) and port name: the chain that the server shares, of its routes too."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """By host: the secret of its certificate."""

    def credential_hosts(self) -> Mapping[str, tuple[str, ...]]:
        """By secret: its hosts."""
        found: dict[str, list[str]] = defaultdict(list)
        for host, name in self.hosts.items():
            found[name].append(host)
        return {name: tuple(hosts) for name, hosts in found.items()}


def on_demand(mesh: Mesh, proxy: Proxy) -> OnDemand:
    """Which servers of ``proxy`` share chains. A host has one certificate, on whichever port: the first one's."""
    alike: dict[tuple[int, _Alike], list[tuple[Gateway, Server, str]]] = defaultdict(list)
    for gateway in mesh.gateways_of(proxy):
        for server in gateway.servers:
            found = _alike(server)
            if found is not None:
                kind, certificate = found
                alike[server.port, kind].append((gateway, server, credential_name(gateway.namespace, certificate)))
    chains: dict[tuple[str, str], str] = {}
    hosts: dict[str, str] = {}
    for (port, kind), members in alike.items():
        if len(members) < FROM:
            continue
        name = _chain_name(port, kind)
        for gateway, server, secret in members:
            if all(hosts.get(host.name, secret) == secret for host in server.hosts):
                hosts.update((host.name, secret) for host in server.hosts)
                chains[gateway.key, server.port_name] = name
    return OnDemand(chains, hosts)


@dataclass(frozen=True, slots=True)
class _Alike:
    """What servers that share a chain have in common."""

    tls: ServerTls
    client_traffic: ClientTraffic


def _alike(server: Server) -> tuple[_Alike, str] | None:
    """What ``server`` has in common with others, and its own certificate's Secret; None if it shares no chain.

    Names of wildcards are without number, so their certificates are not got by name. Whoever asks for client
    certificates has a chain of its own, whatever else it has in common.
    """
    tls = server.tls
    if tls is None or not server.is_http or server.https_redirect or tls.mode.asks or len(tls.certificates) != 1:
        return None
    # Sessions and staples go with a certificate that is known from the beginning.
    if tls.staple is not None or tls.resumption not in (None, Resumption(stateless=False, stateful=False)):
        return None
    (certificate,) = tls.certificates
    if not isinstance(certificate, str) or any("." not in host.name or "*" in host.name for host in server.hosts):
        return None
    return _Alike(replace(tls, certificates=()), replace(server.client_traffic, origin=None)), certificate


def _chain_name(port: int, kind: _Alike) -> str:
    """The same as long as what its servers have in common is: another's routes never come under this name."""
    digest = hashlib.blake2s(repr(kind).encode(), digest_size=4).hexdigest()
    return f"https.{port}.on-demand.{digest}"


def get_on_demand(transport_socket: Any) -> Any:
    """The same TLS for clients, with the certificate that the agent has for the server name.

    Envoy takes no session up again that a certificate on demand began, so both kinds of resumption are off. Delta SDS,
    as only that says "there is no such secret": the handshake then fails at once, and nothing of it stays.
    """
    context: Any = unpack(transport_socket.typed_config)
    common = context.common_tls_context
    del common.tls_certificate_sds_secret_configs[:]
    mapper = core_v3.TypedExtensionConfig(
        name="envoy.tls.certificate_mappers.sni", typed_config=any_of(sni_mapper_v3.SNI(default_value=_NO_NAME))
    )
    selector = on_demand_secret_v3.Config(config_source=delta_sds(), certificate_mapper=mapper)
    common.custom_tls_certificate_selector.CopyFrom(
        core_v3.TypedExtensionConfig(
            name="envoy.tls.certificate_selectors.on_demand_secret", typed_config=any_of(selector)
        )
    )
    context.ClearField("session_ticket_keys_sds_secret_config")
    context.disable_stateless_session_resumption = True
    context.disable_stateful_session_resumption = True
    return core_v3.TransportSocket(name=transport_socket.name, typed_config=any_of(context))
