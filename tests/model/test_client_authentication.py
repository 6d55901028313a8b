from __future__ import annotations

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.model.attachment import Attachment
from isthmus.model.client_authentication import (
    Accepted,
    ApiKeyMethod,
    CertificateMethod,
    ClientAuth,
    ClientAuthentication,
    IntrospectionMethod,
    JwtMethod,
    read_accepted,
    united,
)
from isthmus.model.oidc import OidcLogin

OPAQUE = IntrospectionMethod("https://idp", "https://idp/introspect", "shop", "shop/provider")
LOGIN_AT = Origin(Ref("ClientAuthentication", "shop", "web"), Source("shop.yaml", 1, 1))
LOGIN = OidcLogin("shop", "web", "https://login.example.com", "shop", "shop/oidc", LOGIN_AT)


def policy(name: str = "one", required: bool = True, **methods: object) -> ClientAuthentication:
    origin = Origin(Ref("ClientAuthentication", "shop", name), Source("shop.yaml", 1, 1))
    return ClientAuthentication(name, "shop", Attachment(), required, origin, **methods)


def test_no_policy_accepts_nothing_and_asks_nothing() -> None:
    assert united([]) is None


def test_equally_specific_policies_are_united() -> None:
    one = policy(api_keys=(ApiKeyMethod(("x-key",)),), jwt=(JwtMethod(("https://b",), bound=True),), required=False)
    other = policy(
        "two",
        api_keys=(ApiKeyMethod(("x-key", "x-other"), query=("key",)),),
        jwt=(JwtMethod(("https://a", "https://b")),),
        introspection=(OPAQUE,),
    )
    accepted = united([one, other])
    assert accepted == Accepted(
        required=True,
        api_key=ApiKeyMethod(("x-key", "x-other"), ("key",)),
        issuers=("https://a", "https://b"),
        bound=("https://b",),
        introspection=OPAQUE.key,
    )


def test_of_two_introspections_the_first_is_asked() -> None:
    other = IntrospectionMethod("https://other", "https://other/introspect", "shop", "shop/provider", bound=True)
    accepted = united([policy(introspection=(OPAQUE,)), policy("two", introspection=(other,))])
    assert accepted is not None
    assert (accepted.introspection, accepted.introspection_bound) == (OPAQUE.key, False)


@pytest.mark.parametrize(
    ("accepted", "asks"),
    [
        (Accepted(issuers=("https://a",)), False),
        (Accepted(required=False, issuers=("https://a", "https://b")), False),
        (Accepted(api_key=ApiKeyMethod(("x-key",), ("k",), ("c",))), True),
        (Accepted(certificate=True), True),
        (Accepted(issuers=("https://a",), bound=("https://a",)), True),
        (Accepted(introspection="abc", introspection_bound=True), True),
        (Accepted(logins=("1f",)), False),
    ],
)
def test_the_process_is_asked_what_envoy_cannot_know_and_reads_what_is_written(accepted: Accepted, asks: bool) -> None:
    assert accepted.asks is asks
    assert read_accepted(accepted.text) == accepted


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"required": true, "apiKey": {"places": []}}'])
def test_what_is_not_understood_is_not_taken_for_consent(text: str) -> None:
    with pytest.raises(ValueError):
        read_accepted(text)


def test_another_provider_has_another_key() -> None:
    about = ("https://idp", "https://idp/introspect", "shop", "shop/provider")
    others = [
        IntrospectionMethod(*about, client_auth=ClientAuth.CLIENT_SECRET_POST),
        IntrospectionMethod(*about, audiences=("orders",)),
        IntrospectionMethod(*about[:3], "shop/another"),
    ]
    assert len({OPAQUE.key, *(one.key for one in others)}) == 4
    assert IntrospectionMethod(*about).key == OPAQUE.key


def test_certificates_are_taken_where_any_policy_says_so() -> None:
    accepted = united([policy(jwt=(JwtMethod(("https://a",)),)), policy("two", certificates=(CertificateMethod(),))])
    assert accepted is not None
    assert accepted.certificate


def test_beside_a_login_a_credential_is_always_required() -> None:
    """Else whoever steps around the login with what is none of the others would be nobody, and pass."""
    accepted = united([policy(required=False, oidc=(LOGIN,))])
    assert accepted is not None
    assert accepted.required


def test_of_a_login_its_sessions_are_taken_and_no_tokens_of_its_issuer() -> None:
    accepted = united([policy(oidc=(LOGIN,))])
    assert accepted is not None
    assert (accepted.logins, accepted.issuers) == ((LOGIN.key,), ())
    assert read_accepted(accepted.text) == Accepted(logins=(LOGIN.key,))
