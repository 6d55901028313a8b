from __future__ import annotations

import pytest
from traffic_manifest import Compiled, compiled

from isthmus.kinds.consumer import CERTIFICATE_TWICE, CREDENTIAL_IN_MANIFEST


def document(spec: str, name: str = "mobile", namespace: str = "shop") -> str:
    """``spec`` stands at 4:7."""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: Consumer\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}"
    )


def declared(spec: str) -> Compiled:
    return compiled(document(spec))


def test_who_it_is() -> None:
    done = declared("{groups: [partners, eu, eu], plan: gold, certificates: [partner.example, 'CN=Partner Ltd']}")
    assert done.found == []
    consumer = done.mesh.consumers["shop/mobile"]
    assert (consumer.key, consumer.name, consumer.namespace) == ("shop/mobile", "mobile", "shop")
    assert (consumer.groups, consumer.plan) == (("partners", "eu"), "gold")
    assert consumer.certificates == ("partner.example", "CN=Partner Ltd")


def test_dns_names_are_the_same_in_any_case() -> None:
    (one,) = declared("{certificates: [Partner.Example, partner.example]}").mesh.consumers.values()
    assert one.certificates == ("partner.example",)
    kept = "{certificates: ['spiffe://a/Ns', 'CN=Partner Ltd']}"
    assert declared(kept).mesh.consumers["shop/mobile"].certificates == ("spiffe://a/Ns", "CN=Partner Ltd")


def test_a_name_is_enough() -> None:
    done = declared("{}")
    assert done.found == []
    assert done.mesh.consumers["shop/mobile"].groups == ()


@pytest.mark.parametrize(
    "field", ["apiKey", "apiKeys", "credential", "credentials", "key", "keys", "password", "secret", "token"]
)
def test_a_credential_has_no_place_in_a_manifest(field: str) -> None:
    done = declared(f"{{groups: [a], {field}: isk_hunter2}}")
    (found,) = done.diagnostics
    assert found.code is CREDENTIAL_IN_MANIFEST
    assert "isthmus consumer key create" in found.message
    assert "hunter2" not in done.messages
    assert done.mesh.consumers == {}, "who is half known is nobody"


def test_an_unknown_field() -> None:
    assert declared("{group: a}").found == ["4:8 error ISM1101"]


@pytest.mark.parametrize(
    "spec",
    [
        "{groups: ['']}",
        "{groups: [' a']}",
        '{groups: ["a\\tb"]}',
        "{plan: ''}",
        "{certificates: ['']}",
        "{certificates: ['*.partner.example']}",
        "{certificates: ['CN=']}",
        "{certificates: ['O=Partner']}",
        "{certificates: ['://x']}",
        "{certificates: [partner/x]}",
    ],
)
def test_what_names_nobody(spec: str) -> None:
    done = declared(spec)
    assert [one.partition(" ")[2] for one in done.found] == ["error ISM1106"], done.messages


def test_two_with_the_same_certificate_are_neither_by_it() -> None:
    first = document("{certificates: [a.example, same.example]}")
    second = document("{certificates: [b.example, same.example]}", "partner")
    done = compiled(first, second)
    (found,) = done.diagnostics
    assert found.code is CERTIFICATE_TWICE
    assert "same.example" in found.message
    assert "shop/mobile" in found.message
    assert done.mesh.consumers["shop/mobile"].certificates == ("a.example",)
    assert done.mesh.consumers["shop/partner"].certificates == ("b.example",)


def test_the_same_name_in_two_namespaces_is_two() -> None:
    done = compiled(document("{}"), document("{plan: gold}", namespace="other"))
    assert set(done.mesh.consumers) == {"shop/mobile", "other/mobile"}
