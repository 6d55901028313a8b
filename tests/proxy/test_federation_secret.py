from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.proxy.federation_secret import federation_secrets
from isthmus.proxy.plan import TrustBundle

OWN = TrustBundle("td1", ("one\n", "two\n"), ("old",))
OTHER = TrustBundle("td2", ("three\n",))


def secrets(*trust: TrustBundle) -> dict[str, Any]:
    return {secret.name: unpack(secret.packed) for secret in federation_secrets(trust)}


def test_who_takes_calls_validates_each_trust_domain_by_its_own_roots() -> None:
    context = secrets(OWN, OTHER)["ALL"].validation_context
    assert context.custom_validator_config.name == "envoy.tls.cert_validator.spiffe"
    assert not context.HasField("trusted_ca"), "bundles are never merged"
    config: Any = unpack(context.custom_validator_config.typed_config)
    assert {one.name: one.trust_bundle.inline_bytes for one in config.trust_domains} == {
        "td1": b"one\ntwo\n",
        "old": b"one\ntwo\n",
        "td2": b"three\n",
    }


def test_who_calls_believes_one_trust_domain() -> None:
    found = secrets(OWN, OTHER)
    assert found["spiffe://td1"].validation_context.trusted_ca.inline_bytes == b"one\ntwo\n"
    assert found["spiffe://td2"].validation_context.trusted_ca.inline_bytes == b"three\n"
    assert not found["spiffe://td2"].validation_context.HasField("custom_validator_config")


def test_a_version_is_of_the_content() -> None:
    def versions(*trust: TrustBundle) -> dict[str, str]:
        return {secret.name: secret.version for secret in federation_secrets(trust)}

    renewed = TrustBundle("td2", ("four\n",))
    before, after = versions(OWN, OTHER), versions(OWN, renewed)
    assert before["spiffe://td1"] == after["spiffe://td1"]
    assert before["spiffe://td2"] != after["spiffe://td2"]
    assert before["ALL"] != after["ALL"]
