"""What a gateway proxy needs of its agent as a server: certificates, and the CAs of clients. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace

from isthmus.model.gateway import Gateway, Server, ServerTls, ServerTlsMode
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy
from isthmus.model.world import World
from isthmus.proxy.plan import PlannedCredential
from isthmus.xds.client_validation import client_roots_in_force, client_roots_name
from isthmus.xds.on_demand import on_demand
from isthmus.xds.secret import SESSION_TICKET_KEYS, credential_name, file_certificate_name

_DEVELOPMENT = "development"
_AGENT = "agent"
"""The version of what the agent makes itself."""
_FILES = "files"
"""The version of what the agent reads from files: it watches them itself."""


def server_credentials(
    mesh: Mesh, proxy: Proxy, at_once: Set[str] = frozenset(), world: World | None = None
) -> Iterator[PlannedCredential]:
    """The secrets that the servers of a gateway proxy name, and the keys of its clients' sessions.

    ``at_once``: those that the proxy needs for something else, too.
    """
    shared = on_demand(mesh, proxy)
    hosts = shared.credential_hosts()
    servers = [(gateway, server) for gateway in mesh.gateways_of(proxy) for server in gateway.servers]
    alone = {
        credential_name(gateway.namespace, secret)
        for gateway, server in servers
        if server.tls is not None and (gateway.key, server.port_name) not in shared.chains
        for secret in server.tls.secrets
    }
    for one in _named(mesh, proxy, world or World()):
        if one.name in hosts:
            yield replace(one, hosts=hosts[one.name], at_once=one.name in alone or one.name in at_once)
        else:
            yield one
    if any(server.tls is not None and not server.tls.mode.asks for _, server in servers):
        yield PlannedCredential(SESSION_TICKET_KEYS, _AGENT)


def _named(mesh: Mesh, proxy: Proxy, world: World) -> Iterator[PlannedCredential]:
    """What the servers name. A certificate that no Secret gives is for development."""
    found: dict[str, PlannedCredential] = {}
    unknown: dict[str, set[str]] = {}
    for gateway in mesh.gateways_of(proxy):
        for server in gateway.servers:
            if server.tls is None:
                continue
            for one in (*_files(server.tls), *_client_roots(mesh, gateway, server.tls, world)):
                found[one.name] = one
            for secret in server.tls.secrets:
                name = credential_name(gateway.namespace, secret)
                known = mesh.secrets.get(f"{gateway.namespace}/{secret}")
                if name in world.unstapled:
                    continue
                if known is not None:
                    staple = world.staples.get(name)
                    version = known.digest if staple is None else f"{known.digest}~{staple.version}"
                    found[name] = PlannedCredential(name, version)
                else:
                    unknown.setdefault(name, set()).update(_certifiable(server))
    yield from found.values()
    for name, hosts in unknown.items():
        yield PlannedCredential(name, _DEVELOPMENT, tuple(sorted(hosts)))


def _files(tls: ServerTls) -> Iterator[PlannedCredential]:
    for files in tls.files:
        yield PlannedCredential(file_certificate_name(files.chain, files.key), _FILES)


def _client_roots(mesh: Mesh, gateway: Gateway, tls: ServerTls, world: World) -> Iterator[PlannedCredential]:
    """Of Secrets the version is of all of them: a new list of one is pushed as a new certificate is."""
    if not tls.mode.asks or tls.mode is ServerTlsMode.ISTIO_MUTUAL:
        return
    name, points = client_roots_name(tls, gateway.namespace), tls.validation.crl_points
    fetched = world.crls.get((name, points)) if points is not None else None
    if points is not None and fetched is None:
        return
    if tls.ca_credential is None:
        yield PlannedCredential(name, _FILES)
        return
    secrets = (
        mesh.secrets.get(f"{gateway.namespace}/{one}") for one in (tls.ca_credential, *tls.validation.crl_secrets)
    )
    digests = [secret.digest for secret in secrets if secret is not None]
    if len(digests) == 1 + len(tls.validation.crl_secrets):
        versions = [*digests, fetched.version] if fetched is not None else digests
        # If the CA is ours: what we revoked is in the secret, too.
        versions += [world.own_lists] if world.own_lists else []
        yield PlannedCredential(client_roots_in_force(tls, gateway.namespace, world), "~".join(versions))


def _certifiable(server: Server) -> set[str]:
    """Names that a certificate can hold: for ``*``, the loopback's."""
    hosts = {host.name for host in server.hosts}
    return {host for host in hosts if host != "*"} | ({"localhost"} if "*" in hosts else set())
