"""Tokens on a real Envoy: what is refused and why, what the backend sees, what rules see of claims."""

from __future__ import annotations

import base64
import hmac
import json
import time

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from isthmus.diag import Origin, Ref, Source
from isthmus.filters.jwt_authn import FAILURE, JWT_AUTHN, NAME, JwtAuthn, JwtProviderConfig
from isthmus.filters.rbac import ALLOW, Allow, NamedRule
from isthmus.filters.router import ROUTER, Router
from isthmus.model.match import Exact, Prefix, Present, wildcard
from isthmus.model.policy import JwtRule, TokenHeader
from isthmus.model.predicate import Claim, Not, Path, RequestPrincipal, all_of

from .running import Web, answer, backend, cluster, forward, running

pytestmark = pytest.mark.real

_ORIGIN = Origin(Ref("RequestAuthentication", "shop", "idp"), Source("shop.yaml", 1, 1))
_ISSUER = "https://idp.example.com"
_OTHER = "https://other.example.com"
_KEY = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
_OTHER_KEY = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})


def _jwks(key):
    return json.dumps(KeySet([key]).as_dict(private=False))


def _token(key=_KEY, **claims):
    payload = {"iss": _ISSUER, "sub": "alice", "aud": "shop", "exp": int(time.time()) + 600, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": "k1"}, payload, key)


def _part(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _forged(alg):
    """A token by hand, as no library makes one: unsigned, or signed with the public key as if it were a secret."""
    payload = {"iss": _ISSUER, "sub": "alice", "aud": "shop", "exp": int(time.time()) + 600}
    head = f"{_part(json.dumps({'alg': alg, 'kid': 'k1'}).encode())}.{_part(json.dumps(payload).encode())}"
    secret = _KEY.as_pem(private=False)
    return f"{head}.{'' if alg == 'none' else _part(hmac.digest(secret, head.encode(), 'sha256'))}"


_RULE = JwtRule(
    _ISSUER,
    _ORIGIN,
    audiences=("shop", "orders"),
    jwks=_jwks(_KEY),
    output_payload_to_header="x-istio-jwt",
    output_claim_to_headers=(("x-sub", "sub"), ("x-city", "address.city")),
    space_delimited_claims=("tags",),
)
_SECOND = JwtRule(
    _OTHER,
    _ORIGIN,
    from_headers=(TokenHeader("x-token", "Token "),),
    from_params=("t",),
    from_cookies=("session",),
    forward_original_token=True,
)
_BOTH = JwtAuthn((JwtProviderConfig(_RULE, _RULE.jwks), JwtProviderConfig(_SECOND, _jwks(_OTHER_KEY))))

_RULES = {
    "any-principal": RequestPrincipal(wildcard("*")),
    "alice": RequestPrincipal(wildcard(f"{_ISSUER}/alice")),
    "of-issuer": RequestPrincipal(wildcard(f"{_ISSUER}/*")),
    "ends-with": RequestPrincipal(wildcard("*ice")),
    "not-alice": Not(RequestPrincipal(wildcard(f"{_ISSUER}/alice"))),
    "role": Claim(("role",), Exact("api-user")),
    "role-prefix": Claim(("role",), Prefix("api-")),
    "role-present": Claim(("role",), Present()),
    "not-role": Not(Claim(("role",), Exact("api-user"))),
    "scope": Claim(("scope",), Exact("orders:read")),
    "tags": Claim(("tags",), Exact("blue")),
    "nested": Claim(("realm", "roles"), Exact("admin")),
}


@pytest.fixture(scope="module")
def envoy(tmp_path_factory):
    rules = tuple(NamedRule(name, all_of(Path(Exact(f"/{name}")), rule)) for name, rule in _RULES.items())
    no_keys = JwtAuthn((JwtProviderConfig(_RULE, None),))
    log = {
        "failure": f"%DYNAMIC_METADATA({NAME}:{FAILURE}:message)%",
        "case": "%REQ(X-CASE)%",
    }
    router = ROUTER.build(Router())
    with backend() as app:
        webs = [
            Web("one", [*JWT_AUTHN.build(JwtAuthn(_BOTH.rules[:1])), *router], [forward("/", "app")], log),
            Web("both", [*JWT_AUTHN.build(_BOTH), *router], [forward("/", "app")], log),
            Web("no-keys", [*JWT_AUTHN.build(no_keys), *router], [answer("/")], log),
            Web("rules", [*JWT_AUTHN.build(_BOTH), *ALLOW.build(Allow(rules)), *router], [answer("/")], log),
        ]
        with running(tmp_path_factory.mktemp("jwt"), webs, [cluster("app", app.port)]) as started:
            yield started


def _bearer(token):
    return {"authorization": f"Bearer {token}"}


_GARBAGE = {
    "expired": (lambda: _token(exp=int(time.time()) - 120), 401),
    "without-exp": (lambda: _token(exp=None), 401),
    "not-yet": (lambda: _token(nbf=int(time.time()) + 300), 401),
    "other-key": (lambda: _token(_OTHER_KEY), 401),
    "unknown-issuer": (lambda: _token(iss="https://evil.example.com"), 401),
    "garbage": (lambda: "not.a.token", 401),
    "none": (lambda: _forged("none"), 401),
    "public-key-as-secret": (lambda: _forged("HS256"), 401),
    "tampered": (lambda: _token()[:-6] + "AAAAAA", 401),
    "other-audience": (lambda: _token(aud="billing"), 403),
    "no-audience": (lambda: _token(aud=None), 403),
}


@pytest.mark.parametrize("listener", ["one", "both"])
@pytest.mark.parametrize("name", _GARBAGE)
def test_a_bad_token_is_refused_and_the_client_is_not_told_why(envoy, listener, name):
    token, status = _GARBAGE[name]
    response = envoy.get(listener, headers=_bearer(token()))
    assert response.status_code == status
    assert response.text == ""
    assert "error" not in response.headers.get("www-authenticate", "")


@pytest.mark.parametrize("listener", ["one", "both"])
def test_no_token_and_a_good_one_pass(envoy, listener):
    assert envoy.get(listener).status_code == 200
    assert envoy.get(listener, headers=_bearer(_token())).status_code == 200
    assert envoy.get(listener, headers=_bearer(_token(aud=["x", "orders"]))).status_code == 200
    assert envoy.get(listener, headers={"authorization": "Basic YTpi"}).status_code == 200
    assert envoy.get(listener, f"/?access_token={_token()}").status_code == 200
    assert envoy.get(listener, "/?access_token=garbage").status_code == 401


def test_without_keys_every_token_is_refused(envoy):
    assert envoy.get("no-keys").status_code == 200
    assert envoy.get("no-keys", headers=_bearer(_token())).status_code == 401


def test_the_reason_is_in_the_metadata(envoy):
    envoy.get("one", headers={**_bearer(_token(exp=1)), "x-case": "expired"})
    envoy.get("both", headers={**_bearer(_token(_OTHER_KEY)), "x-case": "other-key"})
    envoy.get("one", headers={**_bearer(_token()), "x-case": "good"})
    found = envoy.logged("expired", "other-key", "good")
    reasons = {case: line["failure"] for case, line in found.items()}
    assert reasons == {"expired": "Jwt is expired", "other-key": "Jwt verification fails", "good": None}


def test_headers_from_the_token_replace_what_the_client_sent(envoy):
    token = _token(address={"city": "Corinth"})
    sent = {**_bearer(token), "x-istio-jwt": "spoofed", "x-sub": "root", "x-city": "Sparta"}
    seen = envoy.get("one", headers=sent).json()
    values = {name: [value for key, value in seen if key == name] for name in ("x-istio-jwt", "x-sub", "x-city")}
    assert values == {"x-istio-jwt": [token.split(".")[1]], "x-sub": ["alice"], "x-city": ["Corinth"]}
    assert "authorization" not in dict(seen)
    spoofed = dict(envoy.get("one", headers={"x-istio-jwt": "spoofed", "x-sub": "root"}).json())
    assert not {"x-istio-jwt", "x-sub"} & set(spoofed)


def test_places_of_a_token_are_those_that_the_rule_names(envoy):
    token = _token(_OTHER_KEY, iss=_OTHER)
    for request in (
        {"headers": {"x-token": f"Token {token}"}},
        {"params": {"t": token}},
        {"headers": {"cookie": f"session={token}"}},
    ):
        response = envoy.get("both", **request)
        assert response.status_code == 200
        assert envoy.get("rules", "/any-principal", **request).status_code == 200
    forwarded = dict(envoy.get("both", headers={"x-token": f"Token {token}"}).json())
    assert forwarded["x-token"] == f"Token {token}"
    assert envoy.get("both", headers={"x-token": "Token garbage"}).status_code == 401
    # Not a place of this issuer, and the other issuer, whose place it is, did not sign it.
    assert envoy.get("both", headers=_bearer(token)).status_code == 401


_CLAIMS = [
    ("any-principal", {}, True),
    ("any-principal", {"sub": ""}, False),
    ("any-principal", {"sub": None}, False),
    ("any-principal", None, False),
    ("alice", {}, True),
    ("alice", {"sub": "bob"}, False),
    ("alice", None, False),
    ("of-issuer", {"sub": "bob"}, True),
    ("of-issuer", {"sub": None}, False),
    ("ends-with", {}, True),
    ("ends-with", {"sub": "bob"}, False),
    ("not-alice", {}, False),
    ("not-alice", {"sub": "bob"}, True),
    ("not-alice", None, True),
    ("role", {"role": "api-user"}, True),
    ("role", {"role": ["x", "api-user"]}, True),
    ("role", {"role": "x"}, False),
    ("role", {"role": ["x"]}, False),
    ("role", {"role": "api-user x"}, False),
    ("role", {"role": 7}, False),
    ("role", {}, False),
    ("role", None, False),
    ("role-prefix", {"role": "api-user"}, True),
    ("role-prefix", {"role": ["x", "api-admin"]}, True),
    ("role-prefix", {"role": "x-api-"}, False),
    ("role-present", {"role": "x"}, True),
    ("role-present", {"role": "a\nb"}, True),
    ("role-present", {"role": ""}, False),
    ("role-present", {}, False),
    ("not-role", {"role": "x"}, True),
    ("not-role", {"role": ["x", "api-user"]}, False),
    ("not-role", None, True),
    ("scope", {"scope": "orders:read"}, True),
    ("scope", {"scope": "openid orders:read"}, True),
    ("scope", {"scope": ["openid", "orders:read"]}, True),
    ("scope", {"scope": "orders:reads"}, False),
    ("tags", {"tags": "red blue"}, True),
    ("tags", {"tags": "red"}, False),
    ("nested", {"realm": {"roles": ["user", "admin"]}}, True),
    ("nested", {"realm": {"roles": "admin"}}, True),
    ("nested", {"realm": {"roles": ["user"]}}, False),
    ("nested", {"realm": "admin"}, False),
]


@pytest.mark.parametrize(("rule", "claims", "allowed"), _CLAIMS)
def test_claims_decide(envoy, rule, claims, allowed):
    headers = {} if claims is None else _bearer(_token(**claims))
    assert envoy.get("rules", f"/{rule}", headers=headers).status_code == (200 if allowed else 403)


def test_every_rule_has_cases_of_both_kinds():
    for rule in _RULES:
        assert {allowed for name, _, allowed in _CLAIMS if name == rule} == {True, False}
