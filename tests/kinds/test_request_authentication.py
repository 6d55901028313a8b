from __future__ import annotations

from datetime import timedelta

import pytest
from security_manifest import SHOP, Applied, applied, policy

from isthmus.kinds.request_authentication import KIND
from isthmus.model.key_set import NO_KEYS
from isthmus.model.policy import JwtRule, TokenHeader
from isthmus.model.selector import Scope

JWKS = NO_KEYS.text


def request(spec: str, namespace: str = "shop", version: str = "v1") -> Applied:
    return applied(KIND, policy("RequestAuthentication", spec, namespace, version=version))


def rule(fields: str) -> tuple[JwtRule | None, list[str]]:
    """The only rule: its fields start in line 6, column 5."""
    result = request("jwtRules:\n- " + fields.replace("\n", "\n  "))
    policies = result.mesh.policies.request
    return (policies[0].rules[0] if policies else None), result.found


def test_the_least_rule() -> None:
    read, found = rule("issuer: https://idp.example")
    assert found == []
    assert read is not None
    assert read == JwtRule("https://idp.example", read.origin)
    assert (read.timeout, read.forward_original_token, read.output_headers) == (timedelta(seconds=5), False, ())
    assert (str(read.origin.ref), read.origin.source.line) == ("RequestAuthentication/shop/policy", 6)


def test_every_field_is_read() -> None:
    read, found = rule(
        """issuer: https://idp.example
audiences: [orders, users]
jwksUri: https://idp.example:8443/jwks.json
fromHeaders: [{name: x-token}, {name: Authorization, prefix: "Bearer "}]
fromParams: [token]
fromCookies: [session]
forwardOriginalToken: true
outputPayloadToHeader: X-Payload
outputClaimToHeaders: [{header: X-Role, claim: realm.role}]
spaceDelimitedClaims: [roles]
timeout: 1500ms"""
    )
    assert found == []
    assert read is not None
    assert read == JwtRule(
        issuer="https://idp.example",
        origin=read.origin,
        audiences=("orders", "users"),
        jwks_uri="https://idp.example:8443/jwks.json",
        from_headers=(TokenHeader("x-token"), TokenHeader("Authorization", "Bearer ")),
        from_params=("token",),
        from_cookies=("session",),
        forward_original_token=True,
        output_payload_to_header="X-Payload",
        output_claim_to_headers=(("X-Role", "realm.role"),),
        space_delimited_claims=("roles",),
        timeout=timedelta(milliseconds=1500),
    )
    assert read.output_headers == ("x-payload", "x-role")


def test_inline_keys() -> None:
    read, found = rule(f"issuer: a\njwks: '{JWKS}'")
    assert found == []
    assert read is not None
    assert (read.jwks, read.jwks_uri) == (JWKS, None)


def test_the_other_spelling_of_jwks_uri() -> None:
    read, found = rule("issuer: a\njwks_uri: http://idp.example/keys")
    assert found == []
    assert read is not None
    assert read.jwks_uri == "http://idp.example/keys"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ("audiences: [a]", '6:5 error ISM1103 spec.jwtRules[0]: the field "issuer" is required'),
        ('issuer: ""', "6:13 error ISM1106 spec.jwtRules[0].issuer: an empty string"),
        ('issuer: a\naudiences: [""]', "7:17 error ISM1106 spec.jwtRules[0].audiences[0]: an empty string"),
        ("issuer: a\naudiences: orders", "7:16 error ISM1102 spec.jwtRules[0].audiences: expected a list"),
        ("issuer: a\naudience: [b]", '7:5 error ISM1101 spec.jwtRules[0].audience: no field "audience"'),
        ("issuer: a\njwksUri: ftp://x/y", '7:14 error ISM1106 spec.jwtRules[0].jwksUri: "ftp://x/y" is not an http'),
        ("issuer: a\njwksUri: https:///y", '7:14 error ISM1106 spec.jwtRules[0].jwksUri: "https:///y" is not'),
        ("issuer: a\njwksUri: http://x:99999/", '7:14 error ISM1106 spec.jwtRules[0].jwksUri: "http://x:99999/"'),
        ("issuer: a\njwks_uri: keys.json", '7:15 error ISM1106 spec.jwtRules[0].jwks_uri: "keys.json" is not'),
        ("issuer: a\njwks: no", "7:11 error ISM1106 spec.jwtRules[0].jwks: jwks: "),
        ("issuer: a\njwks: '[]'", "7:11 error ISM1106 spec.jwtRules[0].jwks: jwks: "),
        ("issuer: a\njwks: '{\"keys\": 1}'", "7:11 error ISM1106 spec.jwtRules[0].jwks: jwks: "),
        (
            "issuer: a\njwksUri: http://x/\njwks: '{\"keys\": []}'",
            "8:11 error ISM1106 spec.jwtRules[0].jwks: only one of jwksUri, jwks can be given",
        ),
        (
            "issuer: a\njwks_uri: http://x/\njwksUri: http://x/",
            "7:15 error ISM1106 spec.jwtRules[0].jwks_uri: only one of jwksUri, jwks_uri can be given",
        ),
        (
            "issuer: a\nfromHeaders: [{prefix: x}]",
            '7:19 error ISM1103 spec.jwtRules[0].fromHeaders[0]: the field "name',
        ),
        ('issuer: a\nfromHeaders: [{name: "a b"}]', '7:26 error ISM1106 spec.jwtRules[0].fromHeaders[0].name: "a b"'),
        ('issuer: a\nfromParams: [""]', "7:18 error ISM1106 spec.jwtRules[0].fromParams[0]: an empty string"),
        ('issuer: a\nfromCookies: [""]', "7:19 error ISM1106 spec.jwtRules[0].fromCookies[0]: an empty string"),
        ("issuer: a\nforwardOriginalToken: yes please", "7:27 error ISM1102 spec.jwtRules[0].forwardOriginalToken"),
        ("issuer: a\noutputPayloadToHeader: Authorization", "7:28 error ISM1106 spec.jwtRules[0].outputPayloadToHead"),
        (
            "issuer: a\noutputPayloadToHeader: ':path'",
            '7:28 error ISM1106 spec.jwtRules[0].outputPayloadToHeader: ":pa',
        ),
        (
            "issuer: a\noutputClaimToHeaders: [{header: Host, claim: sub}]",
            '7:37 error ISM1106 spec.jwtRules[0].outputClaimToHeaders[0].header: the header "Host" has a meaning',
        ),
        (
            "issuer: a\noutputClaimToHeaders: [{header: x-sub}]",
            '7:28 error ISM1103 spec.jwtRules[0].outputClaimToHeaders[0]: the field "claim" is required',
        ),
        ('issuer: a\nspaceDelimitedClaims: [""]', "7:28 error ISM1106 spec.jwtRules[0].spaceDelimitedClaims[0]"),
        ("issuer: a\ntimeout: 5", "7:14 error ISM1102 spec.jwtRules[0].timeout: expected a duration"),
        ("issuer: a\ntimeout: 10us", "7:14 error ISM1106 spec.jwtRules[0].timeout: a duration must be at least 1ms"),
    ],
)
def test_what_is_wrong_is_an_error_at_its_place(fields: str, found: str) -> None:
    read, reported = rule(fields)
    assert read is None
    assert len(reported) == 1
    assert reported[0].startswith(found)


@pytest.mark.parametrize("name", ["targetRef", "targetRefs"])
def test_what_would_narrow_and_cannot_is_refused(name: str) -> None:
    result = request(f"{name}: {{}}\njwtRules: [{{issuer: a}}]")
    assert result.found == [
        f'5:3 error ISM1105 spec.{name}: the field "{name}" narrows who may connect or call and is not supported yet: '
        "refused, not ignored"
    ]
    assert result.mesh.policies.request == ()


def test_without_rules_it_is_warned_about() -> None:
    result = request("selector: {matchLabels: {app: orders}}")
    assert [text[:19] for text in result.found] == ["1:1 warning ISM2221"]
    assert result.mesh.policies.request[0].rules == ()


def test_scopes_and_order() -> None:
    specs = [
        ("shop", "b", "selector: {matchLabels: {app: orders}}\njwtRules: [{issuer: a}, {issuer: b}]"),
        ("istio-system", "a", "jwtRules: [{issuer: c}]"),
        ("edge", "a", "selector: {matchLabels: {app: gateway}}\njwtRules: [{issuer: a}]"),
    ]
    text = "---\n".join(policy("RequestAuthentication", spec, namespace, name) for namespace, name, spec in specs)
    result = applied(KIND, text, SHOP)
    assert result.found == []
    assert [(p.name, p.scope, [rule.issuer for rule in p.rules]) for p in result.mesh.policies.request] == [
        ("b", Scope("shop", (("app", "orders"),)), ["a", "b"]),
        ("a", Scope(None), ["c"]),
        ("a", Scope("edge", (("app", "gateway"),)), ["a"]),
    ]


def test_a_selector_that_matches_nothing() -> None:
    result = request("selector: {matchLabels: {app: order}}\njwtRules: [{issuer: a}]")
    assert [text[:20] for text in result.found] == ["5:27 warning IST0127"]
    assert len(result.mesh.policies.request) == 1


def test_the_older_version() -> None:
    assert request("jwtRules: [{issuer: a}]", version="v1beta1").found == []


def test_the_reference_lists_every_field() -> None:
    rules = next(field for field in KIND.spec.fields if field.name == "jwtRules")
    assert rules.reader is not None
    assert rules.reader.item is not None
    assert [field.name for field in rules.reader.item.fields] == [
        "issuer",
        "audiences",
        "jwksUri",
        "jwks",
        "fromHeaders",
        "fromParams",
        "fromCookies",
        "forwardOriginalToken",
        "outputPayloadToHeader",
        "outputClaimToHeaders",
        "spaceDelimitedClaims",
        "timeout",
    ]
