from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from traffic_manifest import Compiled, compiled

from isthmus.model.rego import RegoPolicy
from isthmus.model.rego_bundle import BundleKey, BundleSource, BundleVerification, DecisionLogging

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_SPKI = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
RSA = _RSA.public_key().public_bytes(*_SPKI).decode()
EC = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*_SPKI).decode()
PRIVATE = _RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
URL = "https://bundles.example/authz.tar.gz"


def declared(bundle: object, **spec: object) -> Compiled:
    """The bundle stands at 4:17."""
    text = json.dumps({"bundle": bundle, **spec})
    return compiled(
        "apiVersion: isthmus.dev/v1alpha1\nkind: RegoPolicy\nmetadata: {name: authz, namespace: shop}\n"
        + f"spec: {text}"
    )


def found(done: Compiled) -> list[str]:
    """Codes, without those of every policy that is about nobody, or that is refused."""
    return [one.code.id for one in done.diagnostics if one.code.id not in ("IST0127", "ISM2006")]


def source(bundle: object, **spec: object) -> RegoPolicy:
    done = declared(bundle, **spec)
    assert found(done) == []
    [only] = done.mesh.policies.rego
    assert isinstance(only, RegoPolicy)
    return only


def key(**fields: str) -> dict[str, str]:
    return {"id": "default", "algorithm": "RS256", "publicKey": RSA} | fields


def test_a_server() -> None:
    assert source({"url": URL}).bundle == BundleSource(URL)
    polling = {"min": "5s", "max": "10s"}
    declared_source = source({"url": URL, "credentialName": "token", "polling": polling}).bundle
    assert declared_source == BundleSource(URL, "shop/token", timedelta(seconds=5), timedelta(seconds=10))
    assert not BundleSource(URL).is_file


def test_a_file() -> None:
    declared_source = source({"file": "../policies/authz.tar.gz"}).bundle
    assert declared_source is not None
    assert declared_source.is_file
    assert Path(declared_source.location) == Path("../policies/authz.tar.gz")


def test_who_must_have_signed() -> None:
    keys = [key(), {"id": "shared", "algorithm": "HS256", "credentialName": "shared", "scope": "read"}]
    declared_source = source({"url": URL, "verification": {"keys": keys, "keyId": "shared", "scope": "write"}}).bundle
    assert declared_source is not None
    declared_keys = (BundleKey("default", "RS256", RSA), BundleKey("shared", "HS256", None, "shop/shared", "read"))
    assert declared_source.verification == BundleVerification(declared_keys, "shared", "write")
    assert source({"url": URL, "verification": {"keys": [key(algorithm="ES256", publicKey=EC)]}}).bundle is not None


def test_where_decisions_are_told() -> None:
    assert source({"url": URL}).log is None
    assert source({"url": URL}, decisionLog={}).log == DecisionLogging()
    told = {"url": "https://logs.example/opa", "credentialName": "token"}
    assert source({"url": URL}, decisionLog=told).log == DecisionLogging("https://logs.example/opa", "shop/token")
    assert source({"url": URL}, decisionLog={"url": "http://localhost:9"}).log == DecisionLogging("http://localhost:9")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ({"credentialName": "token"}, "nothing is sent"),
        ({"url": "http://logs.example"}, "not told over plain http"),
        ({"url": "logs"}, "not an http or https URL"),
    ],
)
def test_decision_logs_that_are_refused(log: object, reason: str) -> None:
    done = declared({"url": URL}, decisionLog=log)
    assert found(done) == ["ISM1106"]
    assert reason in done.messages


def test_plain_http_without_a_signature_is_warned_of() -> None:
    plain = "http://bundles.example/b.tar.gz"
    done = declared({"url": plain})
    assert found(done) == ["ISM7060"]
    assert {one.severity.word for one in done.diagnostics} == {"warning"}
    assert len(done.mesh.policies.rego) == 1
    assert source({"url": plain, "verification": {"keys": [key()]}}).bundle is not None
    assert source({"url": "http://127.0.0.1:8080/b.tar.gz"}).bundle is not None


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        ({}, "one of the two"),
        ({"url": URL, "file": "x"}, "one of the two"),
        ({"url": "ftp://x/y"}, "not an http or https URL"),
        ({"url": "https://user:pass@x/y"}, "do not belong"),
        ({"url": "https://[x/y"}, "not an http or https URL"),
        ({"file": "x", "credentialName": "token"}, "needs no token"),
        ({"file": "x", "polling": {}}, "watched"),
        ({"url": "http://bundles.example/b", "credentialName": "token"}, "not sent over plain http"),
        ({"url": URL, "polling": {"min": "10s", "max": "5s"}}, "min is longer"),
        ({"url": URL, "polling": {"min": "1ms", "max": "5s"}}, "ten times a second"),
        ({"url": URL, "verification": {"keys": [key(), key()]}}, "the same id"),
        ({"url": URL, "verification": {"keys": [key()], "keyId": "other"}}, 'no key has the id "other"'),
        ({"url": URL, "verification": {"keys": [key(algorithm="none")]}}, '"none" is none of'),
        ({"url": URL, "verification": {"keys": []}}, ""),
    ],
)
def test_what_is_refused(bundle: object, reason: str) -> None:
    done = declared(bundle)
    assert len(found(done)) == 1
    assert set(found(done)) <= {"ISM1106", "ISM1103", "ISM1102"}
    assert reason in done.messages


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (key(publicKey=PRIVATE), "not a public key"),
        (key(publicKey="x"), "not a public key"),
        (key(publicKey=EC), "RS256 takes an RSA key"),
        (key(algorithm="ES256"), "curve secp256r1"),
        (key(algorithm="ES384", publicKey=EC), "curve secp384r1"),
        (key(algorithm="HS256"), "a shared key: credentialName"),
        ({"id": "a", "algorithm": "RS256"}, "publicKey, and no credentialName"),
        ({"id": "a", "algorithm": "RS256", "credentialName": "x"}, "publicKey, and no credentialName"),
    ],
)
def test_keys_that_cannot_verify(wrong: dict[str, str], reason: str) -> None:
    done = declared({"url": URL, "verification": {"keys": [wrong]}})
    assert found(done) == ["ISM7061"]
    assert reason in done.messages
