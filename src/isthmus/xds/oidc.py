"""Logins at a gateway: where they hold, what their places tell the filters, and where the provider is reached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import cluster_v3, protobuf, route_v3
from isthmus.filters.jwt_authn import reserved_headers
from isthmus.filters.login_session import LOGIN_SESSION, LoginSession, SessionPlace
from isthmus.filters.oauth2 import OAUTH2, OAuth2, OAuth2Login
from isthmus.model.attachment import RoutePlace
from isthmus.model.client_authentication import Accepted, ApiKeyMethod, united
from isthmus.model.mesh import Mesh
from isthmus.model.oidc import HEADER, OidcLogin, ProviderEndpoints, logins_of
from isthmus.model.predicate import Destination
from isthmus.model.proxy import Proxy, Role
from isthmus.model.route import RouteTable
from isthmus.model.traffic_policy import ClientTls, TlsMode
from isthmus.model.world import Address, World
from isthmus.xds import tls
from isthmus.xds.attached import RoutePolicy, attached, policies_at
from isthmus.xds.context import Context
from isthmus.xds.endpoint import Backend, build_load_assignment
from isthmus.xds.secret import login_cookie_key_name, login_secret_name, sds_secret
from isthmus.xds.snapshot import Built, build
from isthmus.xds.token_rule import jwt_rules

_KIND = "clients"
_CONNECT = timedelta(seconds=2)
_BUFFER_BYTES = 32768

PoliciesAt = Callable[[RoutePlace], Mapping[str, Any]]


def logins_at(mesh: Mesh, world: World, proxy: Proxy) -> tuple[OidcLogin, ...]:
    """The logins that any route of a gateway proxy may need."""
    return _logins(Context(mesh, world, proxy))


def login_keys(context: Context) -> tuple[str, ...]:
    """Of the logins at a gateway; none in the mesh."""
    return tuple(login.key for login in context.aspect(_logins))


def _logins(context: Context) -> tuple[OidcLogin, ...]:
    if context.proxy.role is not Role.GATEWAY:
        return ()
    return logins_of(attached(context, _KIND))


def _chain(context: Context, at: Destination) -> Mapping[type, Any]:
    return {OAuth2: OAuth2(), LoginSession: LoginSession()} if context.aspect(_logins) else {}


def _route(context: Context, at: Destination, place: RoutePlace) -> Mapping[type, Any]:
    """Nothing: a login has paths of its own, and so is at every route of its place; see :func:`with_logins`."""
    return {}


LOGINS = RoutePolicy(_KIND, _chain, _route)


def with_logins(context: Context, policies_at: PoliciesAt) -> PoliciesAt:
    """What routes tell the filters, those of logins among them."""
    if not context.aspect(_logins):
        return policies_at
    return lambda place: {**policies_at(place), **_at_place(context, place)}


def login_routes(context: Context, bound: Iterable[tuple[str, str, RouteTable]]) -> Iterator[Any]:
    """The routes of logins' own paths at one host, before all others. ``bound``: (gateway, server, table) there."""
    if not context.aspect(_logins):
        return
    once: dict[str, RoutePlace] = {}
    for gateway, server, table in bound:
        for route in table.routes:
            place = RoutePlace(gateway, server, f"{table.namespace}/{table.name}", route.name)
            login = _login_at(context, place)
            if login is not None:
                for path in (login[0].redirect_path, login[0].logout_path):
                    once.setdefault(path, place)
    for path, place in once.items():
        built = route_v3.Route(
            name=f"login{path}",
            match=route_v3.RouteMatch(path=path),
            direct_response=route_v3.DirectResponseAction(status=404),
        )
        for name, message in _at_place(context, place).items():
            built.typed_per_filter_config[name].CopyFrom(any_of(message))
        yield built


def _login_at(context: Context, place: RoutePlace) -> tuple[OidcLogin, Accepted] | None:
    accepted = united(policies_at(context, _KIND, place))
    return (accepted.oidc[0], accepted) if accepted is not None and accepted.oidc else None


def _at_place(context: Context, place: RoutePlace) -> dict[str, Any]:
    """By the filter's name. A login that cannot be answers 503: what is there is not there for anybody else either."""
    found = _login_at(context, place)
    if found is None:
        return {}
    login, accepted = found
    others = _others(context, accepted)
    offered = _offered(context, login, others)
    session = SessionPlace(login, others, available=offered is not None)
    assert LOGIN_SESSION.build_route is not None
    assert OAUTH2.build_route is not None
    built: dict[str, Any] = {LOGIN_SESSION.name: LOGIN_SESSION.build_route(session)}
    if offered is not None:
        built[OAUTH2.name] = OAUTH2.build_route(offered)
    return built


def _offered(context: Context, login: OidcLogin, others: ApiKeyMethod) -> OAuth2Login | None:
    endpoints = context.world.endpoints_of(login)
    secret, key = login_secret_name(login.secret, login.secret_key), login_cookie_key_name(login.key)
    hosts = (*login.redirect_domains, *context.aspect(_hosts))
    there = context.world.login_secrets
    if endpoints is None or not hosts or secret not in there or key not in there:
        return None
    return OAuth2Login(
        login=login,
        endpoints=endpoints,
        cluster=provider_cluster(endpoints),
        client_secret=sds_secret(secret),
        cookie_key=sds_secret(key),
        hosts=tuple(dict.fromkeys(hosts)),
        others=others,
    )


def _hosts(context: Context) -> tuple[str, ...]:
    """Of the gateway's servers, and of what is bound to those for any host. Only ``*`` itself says nothing."""
    names: list[str] = []
    for gateway in context.mesh.gateways_of(context.proxy):
        names += (host.name for server in gateway.servers for host in server.hosts)
        names += (host for table in context.mesh.routes_at(gateway.key) for host in table.hosts)
    return tuple(sorted({name for name in names if name != "*"}))


def _others(context: Context, accepted: Accepted) -> ApiKeyMethod:
    """Where a place takes other credentials: who brings one is not sent to log in."""
    keys = accepted.api_key or ApiKeyMethod()
    headers, query, cookies = list(keys.headers), list(keys.query), list(keys.cookies)
    if accepted.introspection is not None:
        headers.append("authorization")
    for rule in jwt_rules(context):
        if rule.issuer in accepted.issuers:
            placed = bool(rule.from_headers or rule.from_params or rule.from_cookies)
            headers += [header.name.lower() for header in rule.from_headers] if placed else ["authorization"]
            query += rule.from_params if placed else ("access_token",)
            cookies += rule.from_cookies
    return ApiKeyMethod(*(tuple(dict.fromkeys(names)) for names in (headers, query, cookies)))


def login_headers(mesh: Mesh) -> tuple[str, ...]:
    """The headers that nobody sets but the filters of logins: of ID tokens, and of what these say."""
    logins = logins_of(mesh.policies.clients)
    return (*(login.header for login in logins), *reserved_headers(login.rule for login in logins))


def provider_cluster(endpoints: ProviderEndpoints) -> str:
    """Where a token endpoint is reached: one cluster for each scheme, host and port."""
    url = urlsplit(endpoints.token)
    return f"{HEADER}{hashlib.sha256(f'{url.scheme}://{url.netloc}'.encode()).hexdigest()[:12]}"


def build_provider_clusters(context: Context) -> Iterator[Built]:
    """Those of the gateway's logins."""
    once: dict[str, tuple[ProviderEndpoints, OidcLogin]] = {}
    for login in context.aspect(_logins):
        endpoints = context.world.endpoints_of(login)
        if endpoints is not None:
            once.setdefault(provider_cluster(endpoints), (endpoints, login))
    for name, (endpoints, login) in once.items():
        yield build(name, _build_cluster(name, endpoints), (login.origin,))


def _build_cluster(name: str, endpoints: ProviderEndpoints) -> Any:
    """Its certificate must have the host's name, from a CA that the system trusts."""
    url = urlsplit(endpoints.token)
    host = url.hostname or ""
    secure = url.scheme == "https"
    address = Address(host, url.port or (443 if secure else 80))
    built = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.STRICT_DNS,
        dns_lookup_family=cluster_v3.Cluster.V4_PREFERRED,
        connect_timeout=duration(_CONNECT),
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        load_assignment=build_load_assignment(name, (Backend(address, False, None, 1, {}),)),
    )
    if secure:
        built.transport_socket.CopyFrom(tls.client(ClientTls(TlsMode.SIMPLE), host, (host,), ("http/1.1",), None))
    return built
