from __future__ import annotations

from dataclasses import replace
from textwrap import indent

import pytest
from tests.kinds.security_manifest import SHOP, Applied, applied, origin

from isthmus.kinds.client_authentication import KIND
from isthmus.model.client_authentication import ApiKeyMethod, CertificateMethod, JwtMethod
from isthmus.model.mesh import SecretRef
from isthmus.model.selector import Scope

SECRET = SecretRef("provider", "shop", frozenset({"client-secret", "ca.crt"}), "1", origin("Secret"))
MESH = replace(SHOP, secrets={SECRET.key: SECRET})
OPAQUE = """
- introspection:
    issuer: https://idp.example.com
    endpoint: https://idp.example.com/introspect
    clientId: shop
    clientSecretRef: {name: provider}
"""


def written(methods: str, name: str = "one", spec: str = "selector: {matchLabels: {app: orders}}") -> str:
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\nmetadata: {{name: {name}}}\nspec:\n"
    return f"{head}  {spec}\n  methods:\n{indent(methods.strip(), '    ')}\n"


def read(*texts: str) -> Applied:
    return applied(KIND, "---\n".join(texts), MESH)


def test_methods_side_by_side() -> None:
    found = read(
        written(
            "- apiKey: {headers: [X-Key], cookies: [key]}\n- apiKey: {}\n- certificate: {}\n"
            "- jwt: {issuers: [https://a, https://b], boundToCertificate: true}" + OPAQUE
        )
    )
    assert found.found == []
    (policy,) = found.mesh.policies.clients
    assert policy.required
    assert policy.attachment.scope == Scope("shop", (("app", "orders"),))
    assert policy.api_keys == (ApiKeyMethod(("x-key",), (), ("key",)), ApiKeyMethod(("x-api-key",)))
    assert policy.certificates == (CertificateMethod(),)
    assert policy.jwt == (JwtMethod(("https://a", "https://b"), bound=True),)
    (opaque,) = policy.introspection
    assert (opaque.secret, opaque.secret_key, opaque.ca_secret) == ("shop/provider", "client-secret", None)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("- {}", "exactly one of apiKey"),
        ("- {certificate: {}, apiKey: {}}", "exactly one of apiKey"),
        ("- basic: {}", "ISM1105"),
        ("- apiKey: {headers: ['x key']}", "is not the name of a header"),
        ("- apiKey: {headers: [Cookie]}", "has a meaning of its own"),
        ("- apiKey: {query: ['a=b']}", "is not a name here"),
        ("- jwt: {}", "ISM1103"),
        ("- jwt: {issuers: ['']}", "an issuer is needed"),
        (OPAQUE + OPAQUE, "one introspection, no more"),
        (OPAQUE.replace("https://idp.example.com/introspect", "http://idp.example.com/introspect"), "https it is"),
        (OPAQUE.replace("https://idp.example.com/introspect", "https://a:b@idp.example.com/"), "without user"),
        (OPAQUE.replace("https://idp.example.com/introspect", "https://[idp/"), "is not a URL"),
        (OPAQUE + "    timeout: 10s", "the client waits with us"),
        (OPAQUE + "    cacheFor: 2h", "a revoked token stays good so long"),
        (OPAQUE + "    clientAuth: none", "client_secret_basic"),
    ],
)
def test_what_cannot_be_meant_is_refused(methods: str, said: str) -> None:
    (found,) = read(written(methods)).found
    assert said in found


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "idp.localhost", "[::1]:80"])
def test_http_to_this_machine_is_for_development(host: str) -> None:
    text = OPAQUE.replace("https://idp.example.com/introspect", f'"http://{host}/introspect"')
    assert read(written(text)).found == []


def test_a_secret_must_be_there_and_have_the_key() -> None:
    missing = read(written(OPAQUE.replace("provider", "povider") + "    caSecretRef: {name: provider}"))
    (said,) = missing.found
    assert 'no Secret named "povider" (did you mean "provider"?)' in said
    other = read(written(OPAQUE.replace("{name: provider}", "{name: provider, key: secret}")))
    assert 'no key of Secret/shop/provider named "secret"' in other.found[0]


def test_keys_in_the_query_are_seen_by_others() -> None:
    (said,) = read(written("- apiKey: {query: [api_key]}")).found
    assert "ISM2301" in said
    assert "api_key" in said


def test_two_for_the_same_widen_each_other() -> None:
    (said,) = read(written(OPAQUE), written(OPAQUE, "two")).found
    assert "ISM2300" in said
    assert "ClientAuthentication/shop/one is for the same (app=orders)" in said
    assert "only the first introspection is asked" in said
    assert read(written(OPAQUE), written(OPAQUE, "two", "selector: {matchLabels: {app: users}}")).found == []
