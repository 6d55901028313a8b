from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api import unpack
from isthmus.filters.ext_authz import CUSTOM, CUSTOM_AFTER, Custom, CustomAfter, CustomProvider, custom_log_fields
from isthmus.filters.rbac import NamedRule
from isthmus.model.consumer import ANSWERED_KEY, CLIENT, CLIENT_KEYS, EXTERNAL, EXTERNAL_KEY
from isthmus.model.predicate import TRUE
from isthmus.model.settings import ExtAuthz, RequestBody

_ORIGIN = Origin(Ref("ConfigMap", "istio-system", "istio"), Source("mesh.yaml", 1, 1))
_RULE = NamedRule("ns[shop]-policy[login]-rule[0]", TRUE)


def _built(provider):
    built = CUSTOM.build(Custom((CustomProvider(provider, "authz", (_RULE,)),)))
    mark, ask = (message for message in built if not message.name.startswith(("isthmus.custom.e", "isthmus.custom.c")))
    return unpack(mark.typed_config), unpack(ask.typed_config)


def test_the_mark_is_a_shadow_and_the_question_depends_on_it():
    mark, ask = _built(ExtAuthz("login", "authz.shop", 80, grpc=False, origin=_ORIGIN))
    assert not mark.HasField("rules")
    assert list(mark.shadow_rules.policies) == [_RULE.name]
    condition = ask.filter_enabled_metadata
    assert condition.filter == "envoy.filters.http.rbac"
    assert condition.path[0].key == f"{mark.shadow_rules_stat_prefix}shadow_engine_result"
    assert condition.value.string_match.exact == "denied"


def test_every_field_of_an_http_provider():
    _, ask = _built(
        ExtAuthz(
            name="login",
            host="authz.shop",
            port=8000,
            grpc=False,
            origin=_ORIGIN,
            timeout=timedelta(seconds=2),
            fail_open=True,
            clear_route_cache=True,
            status_on_error=503,
            path_prefix="/check",
            include_request_headers=("cookie", "X-*"),
            include_additional_headers=(("x-static", "1"),),
            include_body=RequestBody(1024, allow_partial=True, as_bytes=True),
            headers_to_upstream=("x-user",),
            headers_to_downstream_on_deny=("*-cookie",),
            headers_to_downstream_on_allow=("x-seen",),
        )
    )
    http = ask.http_service
    assert (http.server_uri.uri, http.server_uri.cluster) == ("http://authz.shop:8000", "authz")
    assert http.server_uri.timeout.ToTimedelta() == timedelta(seconds=2)
    assert http.path_prefix == "/check"
    assert [(one.key, one.value) for one in http.authorization_request.headers_to_add] == [("x-static", "1")]
    assert [one.exact or one.prefix for one in ask.allowed_headers.patterns] == ["cookie", "X-"]
    assert all(one.ignore_case for one in ask.allowed_headers.patterns)
    answer = http.authorization_response
    assert answer.allowed_upstream_headers.patterns[0].exact == "x-user"
    assert answer.allowed_client_headers.patterns[0].suffix == "-cookie"
    assert answer.allowed_client_headers_on_success.patterns[0].exact == "x-seen"
    assert (ask.failure_mode_allow, ask.clear_route_cache, ask.status_on_error.code) == (True, True, 503)
    body = ask.with_request_body
    assert (body.max_request_bytes, body.allow_partial_message, body.pack_as_bytes) == (1024, True, True)


def test_a_grpc_provider_and_the_defaults():
    _, ask = _built(ExtAuthz("opa", "opa.shop", 9191, grpc=True, origin=_ORIGIN))
    assert ask.grpc_service.envoy_grpc.cluster_name == "authz"
    assert ask.grpc_service.envoy_grpc.authority == "opa.shop"
    assert ask.grpc_service.timeout.ToTimedelta() == timedelta(seconds=600)
    assert not ask.failure_mode_allow
    assert ask.status_on_error.code == 403
    assert not ask.HasField("with_request_body")


def test_each_provider_has_its_own_mark():
    provider = ExtAuthz("opa", "opa.shop", 9191, grpc=True, origin=_ORIGIN)
    config = Custom((CustomProvider(provider, "a", (_RULE,)), CustomProvider(provider, "b", (_RULE,))))
    _, first, _, second, _, _ = CUSTOM.build(config)
    prefixes = [unpack(one.typed_config).shadow_rules_stat_prefix for one in (first, second)]
    assert len(set(prefixes)) == 2
    fields = custom_log_fields(config)
    assert [prefix in field for prefix, field in zip(prefixes, fields.values(), strict=True)] == [True, True]


def test_who_the_client_is_no_provider_says():
    *_, forget = CUSTOM.build(Custom((CustomProvider(ExtAuthz("a", "a.shop", 1, grpc=True, origin=_ORIGIN), "a", ()),)))
    _, told = unpack(forget.typed_config).metadata
    assert (told.metadata_namespace, told.allow_overwrite) == (CLIENT, True)
    assert {key: value.WhichOneof("kind") for key, value in told.value.fields.items()} == {
        **dict.fromkeys(CLIENT_KEYS, "null_value"),
        ANSWERED_KEY: "bool_value",
    }


def test_while_external_providers_are_asked_it_is_said_and_not_while_ours_are():
    outside, ours = (ExtAuthz(name, "a.shop", 1, grpc=True, origin=_ORIGIN) for name in ("outside", "ours"))
    ours = replace(ours, rego="shop/authz")
    providers = tuple(CustomProvider(one, "a", ()) for one in (ours, outside, outside, ours))
    for built in (CUSTOM.build(Custom(providers)), CUSTOM_AFTER.build(CustomAfter(providers))):
        during: list[tuple[str, bool]] = []
        external = False
        for message in built:
            config = unpack(message.typed_config)
            if hasattr(config, "metadata"):
                (said,) = (one for one in config.metadata if one.metadata_namespace == EXTERNAL)
                external = said.value.fields[EXTERNAL_KEY].bool_value
            elif hasattr(config, "grpc_service"):
                during.append((message.name.rpartition(".")[2], external))
        assert during == [("ours", False), ("outside", True), ("outside", True), ("ours", False)]
        assert not external


def test_behind_authentication_the_provider_is_told_the_claims_and_has_marks_of_its_own():
    provider = ExtAuthz("opa", "authz.shop", 80, grpc=True, origin=_ORIGIN)
    config = CustomAfter((CustomProvider(provider, "authz", (_RULE,)),))
    messages = CUSTOM_AFTER.build(config)
    _, mark, ask, _ = (unpack(message.typed_config) for message in messages)
    assert [message.name for message in messages] == [
        "isthmus.custom_after.external.0",
        "isthmus.custom_after.0",
        "isthmus.ext_authz_after.opa",
        "isthmus.custom_after.client.0",
    ]
    assert mark.shadow_rules_stat_prefix == "isthmus_after_0_"
    assert ask.filter_enabled_metadata.path[0].key == "isthmus_after_0_shadow_engine_result"
    assert "envoy.filters.http.jwt_authn" in ask.metadata_context_namespaces
    assert not ask.enable_dynamic_metadata_ingestion.value
    before = CUSTOM.build(Custom(config.providers))
    assert not {message.name for message in messages} & {message.name for message in before}
    assert set(custom_log_fields(Custom(config.providers), config)) == {"custom_policy_0", "custom_policy_after_0"}


def test_a_rego_policy_is_asked_by_name_and_may_tell_why():
    provider = ExtAuthz("opa", "", 0, grpc=True, origin=_ORIGIN, rego="shop/authz")
    _, ask = _built(provider)
    assert [(one.key, one.value) for one in ask.grpc_service.initial_metadata] == [
        ("isthmus-rego-policies", "shop/authz")
    ]
    assert ask.enable_dynamic_metadata_ingestion.value
    assert ask.include_peer_certificate
