from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.control.offline import offline_world
from isthmus.envoy_api import unpack
from isthmus.filters.login_session import LoginSession
from isthmus.filters.oauth2 import OAuth2
from isthmus.model.attachment import RoutePlace
from isthmus.model.oidc import Provider, ProviderEndpoints, logins_of
from isthmus.model.predicate import Destination
from isthmus.xds.context import Context
from isthmus.xds.oidc import build_provider_clusters, login_headers, login_routes, provider_cluster, with_logins
from isthmus.xds.policy import edge_headers, http_policy
from isthmus.xds.snapshot import message
from tests.control.oidc_making import GATEWAY, ISSUER, login, secret
from tests.xds.making import compiled, entry, service

KNOWN = ProviderEndpoints("https://login.example.com/a", "https://login.example.com:8443/t")
WEB, OPEN = (RoutePlace("shop/edge", "https", "shop/shop", name) for name in ("web", "open"))
OAUTH2, SESSION = "envoy.filters.http.oauth2", "isthmus.login"


def context(*texts: str, known: ProviderEndpoints | None = KNOWN, proxy: str = "gateway~shop~edge") -> Context:
    mesh = compiled(GATEWAY, *texts).mesh
    world = replace(offline_world(mesh), providers={ISSUER: Provider(known)} if known is not None else {})
    return Context(mesh, world, mesh.proxies_by_id[proxy])


def at(found: Context, place: RoutePlace) -> dict[str, Any]:
    return dict(with_logins(found, lambda place: {})(place))


def test_a_login_is_told_to_its_route_alone() -> None:
    found = context(secret(), login())
    told = at(found, WEB)
    assert set(told) == {OAUTH2, SESSION}
    config = told[OAUTH2].config
    assert config.authorization_endpoint == KNOWN.authorization
    assert config.token_endpoint.cluster == provider_cluster(KNOWN)
    assert list(config.allowed_redirect_domains) == ["shop.example.com"]
    assert dict(told[SESSION].filter_context)["unavailable"] == "no"
    assert at(found, OPEN) == {}


@pytest.mark.parametrize("texts", [(), (secret(),)], ids=["no secret", "no discovery"])
def test_a_login_that_cannot_be_is_unavailable(texts: tuple[str, ...]) -> None:
    told = at(context(*texts, login(), known=None if texts else KNOWN), WEB)
    assert set(told) == {SESSION}
    assert dict(told[SESSION].filter_context)["unavailable"] == "yes"


def test_the_login_has_paths_of_its_own() -> None:
    found = context(secret(), login())
    (table,) = found.mesh.routes
    routes = list(login_routes(found, [("shop/edge", "https", table)]))
    assert [route.match.path for route in routes] == ["/oauth2/callback", "/logout"]
    assert all(OAUTH2 in route.typed_per_filter_config for route in routes)
    assert not list(login_routes(context(secret()), [("shop/edge", "https", table)]))


def test_the_filters_stand_in_the_chains_of_gateways_with_logins() -> None:
    port = Destination(443, "127.0.0.1")
    assert {OAuth2, LoginSession} <= http_policy(context(secret(), login()), port).filters.keys()
    assert not {OAuth2, LoginSession} & http_policy(context(secret()), port).filters.keys()
    sidecar = context(secret(), login(), service("orders"), entry("orders-1"), proxy="sidecar~shop~orders-1")
    assert not {OAuth2, LoginSession} & http_policy(sidecar, Destination(8080)).filters.keys()


def test_nobody_outside_sets_the_header_of_id_tokens() -> None:
    mesh = context(secret(), login()).mesh
    (one,) = logins_of(mesh.policies.clients)
    assert login_headers(mesh) == (one.header,)
    assert one.header in edge_headers(mesh)


def test_the_provider_is_who_its_certificate_says() -> None:
    (built,) = build_provider_clusters(context(secret(), login()))
    cluster: Any = message(built)
    assert cluster.name == provider_cluster(KNOWN)
    tls: Any = unpack(cluster.transport_socket.typed_config)
    assert tls.sni == "login.example.com"
    validation = tls.common_tls_context.combined_validation_context
    (name,) = validation.default_validation_context.match_typed_subject_alt_names
    assert name.matcher.exact == "login.example.com"
    assert validation.validation_context_sds_secret_config.name == "file-root:system"
    (plain,) = build_provider_clusters(
        context(secret(), login(), known=ProviderEndpoints("http://localhost:1/a", "http://localhost:1/t"))
    )
    assert not message(plain).HasField("transport_socket")  # type: ignore[attr-defined]


def test_other_credentials_of_the_place_go_past_the_login() -> None:
    policy = login().replace("methods: [", "methods: [{apiKey: {headers: [x-key], query: [k]}}, ")
    told = at(context(secret(), policy), WEB)
    assert [one.name for one in told[OAUTH2].config.pass_through_matcher] == ["x-key", ":path"]
    assert dict(told[SESSION].filter_context)["headers"] == "x-key"
