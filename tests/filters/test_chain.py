"""The chain as a whole: its order, and Envoy's own validator on every filter at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api import any_of, unpack
from isthmus.envoy_api.packages import cluster_dynamic_forward_proxy_v3, cluster_v3, listener_v3, tcp_proxy_v3
from isthmus.filters import FILTERS
from isthmus.filters.access import Access, AccessReasons
from isthmus.filters.allow_policies import AllowPolicies
from isthmus.filters.challenge import Challenge
from isthmus.filters.cors import NAME as CORS_NAME
from isthmus.filters.cors import Cors
from isthmus.filters.cors import build_route as build_cors
from isthmus.filters.credentials import CLUSTER as CREDENTIALS_CLUSTER
from isthmus.filters.credentials import Credentials
from isthmus.filters.decision_time import DecisionTime
from isthmus.filters.dynamic_forward_proxy import DynamicForwardProxy, dns_cache
from isthmus.filters.ext_authz import Custom, CustomAfter, CustomProvider
from isthmus.filters.fault import NAME as FAULT_NAME
from isthmus.filters.fault import Fault, build_route
from isthmus.filters.global_limit import GlobalLimit, GlobalLimits, OpenGlobalLimits
from isthmus.filters.jwt_authn import JwtAuthn, JwtProviderConfig
from isthmus.filters.limit import ClientLimits, EarlyLimits, LocalLimit, ShadowLimits
from isthmus.filters.limit_headers import LimitHeaders
from isthmus.filters.login_session import LoginSession
from isthmus.filters.oauth2 import OAuth2
from isthmus.filters.one_token import OneToken
from isthmus.filters.peer import build_ambiguous_peer_guard
from isthmus.filters.proxy_authorization import ProxyAuthorization, local_reply_mapper
from isthmus.filters.rbac import Allow, Audit, Deny, NamedRule, build_network
from isthmus.filters.rego import Rego
from isthmus.filters.router import Router
from isthmus.model.match import Exact, Prefix, Present, Regex
from isthmus.model.policy import JwtRule
from isthmus.model.predicate import Claim, FilterMetadata, Not, Peer, RequestPrincipal, Sni, all_of
from isthmus.model.settings import ExtAuthz, RequestBody

from .chain import build_chain
from .limits import EVERY_KEY, counted, local, slots
from .running import Web, address, answer, build_listener, cluster, forward, validate

_ORIGIN = Origin(Ref("AuthorizationPolicy", "shop", "all"), Source("shop.yaml", 1, 1))
_CALLER = all_of(
    Peer(Regex("spiffe://td/ns/shop/sa/[^,/]+")),
    RequestPrincipal(Present()),
    Not(Claim(("role",), Exact("x"))),
    FilterMetadata("envoy.filters.x", ("a", "b"), Prefix("c"), listed=True),
    Sni(Present()),
)
_RULE = NamedRule("ns[shop]-policy[all]-rule[0]", _CALLER, _ORIGIN)
_HTTP = ExtAuthz(
    name="http",
    host="authz.shop",
    port=80,
    grpc=False,
    origin=_ORIGIN,
    path_prefix="/check",
    include_request_headers=("x-*", "cookie"),
    include_additional_headers=(("x-static", "1"),),
    include_body=RequestBody(1024, allow_partial=True, as_bytes=False),
    headers_to_upstream=("x-user",),
    headers_to_downstream_on_deny=("location",),
    headers_to_downstream_on_allow=("set-cookie",),
)
_GRPC = ExtAuthz(name="grpc", host="authz.shop", port=81, grpc=True, origin=_ORIGIN, timeout=timedelta(seconds=1))

CONFIGS = {
    Router: Router(),
    Fault: Fault(),
    Cors: Cors(),
    DecisionTime: DecisionTime(),
    Allow: Allow((_RULE,), (_RULE,)),
    ProxyAuthorization: ProxyAuthorization("Basic x"),
    Deny: Deny((_RULE,), (_RULE,)),
    DynamicForwardProxy: DynamicForwardProxy(),
    Audit: Audit((_RULE,)),
    JwtAuthn: JwtAuthn((JwtProviderConfig(JwtRule("https://idp", _ORIGIN), None),)),
    OAuth2: OAuth2(),
    LoginSession: LoginSession(),
    Credentials: Credentials('{"required":true}', ("x-api-key",)),
    AllowPolicies: AllowPolicies((_RULE.name,)),
    Access: Access(()),
    AccessReasons: AccessReasons(Access(())),
    CustomAfter: CustomAfter((CustomProvider(_GRPC, "authz", (_RULE,)),)),
    Rego: Rego(("shop/a",)),
    Challenge: Challenge(),
    OneToken: OneToken((), ("access_token", "t"), ()),
    LimitHeaders: LimitHeaders(),
    EarlyLimits: EarlyLimits((LocalLimit("shop/p/a", local(by=EVERY_KEY), None, True),)),
    ClientLimits: ClientLimits((LocalLimit("shop/p/b", local(plans=("free",)), "shop/p", False),)),
    ShadowLimits: ShadowLimits((LocalLimit("shop/p/c", local(shadow=True), None, True),)),
    GlobalLimits: GlobalLimits((GlobalLimit("shop/p/d", counted(by=EVERY_KEY)), GlobalLimit("s", slots())), "authz"),
    OpenGlobalLimits: OpenGlobalLimits((GlobalLimit("shop/p/e", counted()),), "authz"),
    Custom: Custom((CustomProvider(_HTTP, "authz", (_RULE,)), CustomProvider(_GRPC, "authz", (_RULE,)))),
}


def test_the_order_is_that_of_the_registry_whatever_the_order_of_the_mapping():
    assert [message.name for message in build_chain(CONFIGS)] == [
        "isthmus.limit.headers",
        "isthmus.challenge",
        "isthmus.proxy_authorization",
        "isthmus.proxy_authorization.strip",
        "envoy.filters.http.cors",
        "isthmus.limit.early",
        "envoy.filters.http.oauth2",
        "isthmus.login",
        "isthmus.custom.external.0",
        "isthmus.custom.0",
        "isthmus.ext_authz.http",
        "isthmus.custom.1",
        "isthmus.ext_authz.grpc",
        "isthmus.custom.client.0",
        "isthmus.one_token",
        "envoy.filters.http.jwt_authn",
        "isthmus.credentials",
        "isthmus.allow_policies",
        "isthmus.rbac.audit",
        "isthmus.rbac.deny",
        "isthmus.rbac.allow",
        "isthmus.access.reasons",
        "isthmus.access",
        "isthmus.custom_after.external.0",
        "isthmus.custom_after.0",
        "isthmus.ext_authz_after.grpc",
        "isthmus.custom_after.client.0",
        "isthmus.rego",
        "isthmus.limit.client",
        "isthmus.limit.shadow",
        "isthmus.limit.global",
        "isthmus.limit.global_open",
        "isthmus.decision_time",
        "envoy.filters.http.fault",
        "envoy.filters.http.dynamic_forward_proxy",
        "envoy.filters.http.router",
    ]


def test_the_registry_has_each_name_and_each_configuration_once():
    assert set(CONFIGS) == {filter_.config for filter_ in FILTERS}
    assert len({filter_.name for filter_ in FILTERS}) == len(FILTERS)
    assert FILTERS[-1].config is Router


def test_a_configuration_that_no_filter_takes_is_refused():
    with pytest.raises(ValueError, match="no filter takes str"):
        build_chain({str: "x"})


def test_router_and_dynamic_forward_proxy():
    (router,) = build_chain({Router: Router(suppress_envoy_headers=True)})
    assert unpack(router.typed_config).suppress_envoy_headers
    (proxy,) = build_chain({DynamicForwardProxy: DynamicForwardProxy("cache")})
    assert unpack(proxy.typed_config).dns_cache_config == dns_cache(DynamicForwardProxy("cache"))


@pytest.mark.real
def test_envoy_takes_all_of_them_together(tmp_path):
    fault = build_route(Fault(timedelta(seconds=1), 10, abort_status=500, abort_percent=0.1))
    cors = build_cors(Cors((Exact("https://shop.example.com"),), ("GET",), max_age=timedelta(hours=1)))
    outside = cluster_v3.Cluster(
        name="outside",
        lb_policy=cluster_v3.Cluster.CLUSTER_PROVIDED,
        cluster_type=cluster_v3.Cluster.CustomClusterType(
            name="envoy.clusters.dynamic_forward_proxy",
            typed_config=any_of(
                cluster_dynamic_forward_proxy_v3.ClusterConfig(dns_cache_config=dns_cache(DynamicForwardProxy()))
            ),
        ),
    )
    web = Web(
        "all",
        build_chain(CONFIGS),
        [answer("/fault", per_filter={FAULT_NAME: fault, CORS_NAME: cors}), forward("/", "outside")],
        network_filters=[build_ambiguous_peer_guard()],
        local_replies=local_reply_mapper(),
    )
    peer = NamedRule("ns[shop]-policy[tcp]-rule[0]", Peer(Prefix("spiffe://td/")))
    tcp_proxy = tcp_proxy_v3.TcpProxy(stat_prefix="tcp", cluster="authz")
    network = [
        build_ambiguous_peer_guard(),
        *(build_network(config, "tcp") for config in (Audit((peer,)), Deny((peer,), (peer,)), Allow((peer,), (peer,)))),
        listener_v3.Filter(name="envoy.filters.network.tcp_proxy", typed_config=any_of(tcp_proxy)),
    ]
    tcp = listener_v3.Listener(name="tcp", address=address(), filter_chains=[listener_v3.FilterChain(filters=network)])
    done = validate(
        tmp_path,
        [build_listener(web, tmp_path / "log"), tcp],
        [cluster("authz", 1), cluster(CREDENTIALS_CLUSTER, 1, http2=True), outside],
    )
    assert done.returncode == 0, done.stderr
